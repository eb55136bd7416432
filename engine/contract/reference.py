"""References that checks compare answers with, and regular expressions of the contract."""

from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from engine.contract.base import Section


def compiles(pattern: str) -> str:
    """Return `pattern`. Raises ValueError if it is not a regular expression."""
    import regex

    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}; correct it, and quote it in YAML with '...'") from None
    return pattern


def has_groups(wanted: int, what: str) -> AfterValidator:
    """Return a validator for regular expressions with `wanted` groups; `what` describes the groups in its message."""

    def groups(pattern: str) -> str:
        import regex

        if (found := regex.compile(compiles(pattern)).groups) != wanted:
            raise ValueError(f"{pattern!r}: found {found} groups (...), expected {wanted}: {what}; others are (?:...)")
        return pattern

    return AfterValidator(groups)


Pattern = Annotated[str, AfterValidator(compiles)]
"""A regular expression."""


class Reference(Section):
    """The reference that an answer is compared with: the prompt's own, unless `value` or `pattern` is given."""

    value: str | None = None
    """A reference for all prompts."""
    pattern: Annotated[str, has_groups(1, "what is compared")] | None = None
    """A regular expression; the reference is what its one group matches in the prompt's text."""
    field: str | None = None
    """Which field to compare with, of a reference that is a JSON object."""
    missing: Literal["fail", "pass"] = "fail"
    """Outcome for an answer whose prompt has no reference; `fail` has the tag `no_reference`."""

    @model_validator(mode="after")
    def comes_from_one_place(self) -> "Reference":
        if self.value is not None and self.pattern is not None:
            raise ValueError("found value and pattern, expected one of them, or neither for the prompt's own reference")
        return self
