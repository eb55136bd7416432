"""References that checks compare answers with, and regular expressions of the contract."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.contract.base import Section

EXTRACTIONS = ("boxed", "hash_marks", "last_number")


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

    return AfterValidator(lambda pattern: _with_groups(pattern, wanted, what))


def _with_groups(pattern: str, wanted: int, what: str) -> str:
    import regex

    if (found := regex.compile(compiles(pattern)).groups) != wanted:
        raise ValueError(f"{pattern!r}: found {found} groups (...), expected {wanted}: {what}; others are (?:...)")
    return pattern


Pattern = Annotated[str, AfterValidator(compiles)]
"""A regular expression."""


def is_none(value: object) -> bool:
    """Return whether a key is left out of dumps, so that recipes that were hashed before it existed keep their hashes."""
    return value is None


def _is_an_extraction(extract: str) -> str:
    if extract in EXTRACTIONS:
        return extract
    return _with_groups(extract, 1, f"the final answer, or one of {', '.join(EXTRACTIONS)}")


class Reference(Section):
    """The reference that an answer is compared with: the prompt's own, unless `value` or `pattern` is given."""

    value: str | None = None
    """A reference for all prompts."""
    pattern: Annotated[str, has_groups(1, "what is compared")] | None = None
    """A regular expression; the reference is what its one group matches in the prompt's text."""
    field: str | None = None
    """Which field to compare with, of a reference that is a JSON object."""
    extract: Annotated[str, AfterValidator(_is_an_extraction)] | None = Field(default=None, exclude_if=is_none)
    """What of a longer text is compared: `boxed`, `hash_marks` (what follows the last `####`), `last_number`, or a regular
    expression whose one group is it. The last match counts, in the reference, and in answers of `numeric` and `math`; a text
    without a match is compared as a whole."""
    missing: Literal["fail", "pass"] = "fail"
    """Outcome for an answer whose prompt has no reference; `fail` has the tag `no_reference`."""

    @model_validator(mode="after")
    def comes_from_one_place(self) -> "Reference":
        if self.value is not None and self.pattern is not None:
            raise ValueError("found value and pattern, expected one of them, or neither for the prompt's own reference")
        return self
