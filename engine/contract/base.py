"""The base class of all sections of the contract, and types that several of them use."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

JsonSchema = dict[str, Any]
"""A JSON Schema (draft 2020-12)."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A fraction or probability, 0 to 1."""

Positive = Annotated[int, Field(gt=0)]
"""A count of at least 1."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""Lower case letters, digits, - and _: safe as a folder name on every store."""

NonEmpty = Annotated[str, Field(min_length=1)]
"""A path, URL or name of something that is read: an empty one would be the contract's own folder."""

Items = TypeVar("Items", bound=Iterable[Any])


class Section(BaseModel):
    """A part of the contract: an unknown key is an error, and values never change. The docstring under a field documents it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=(), allow_inf_nan=False)


def unless(default: object) -> Callable[[object], bool]:
    """Return what leaves a key out of dumps while it has its `default`: recipes that were hashed before it existed keep theirs."""
    return lambda value: value == default


def added(default: Any, **limits: Any) -> Any:
    """Return the field of a key that finished recipes do not have; `limits` are those of pydantic's Field."""
    return Field(default=default, exclude_if=unless(default), **limits)


def distinct(attribute: str = "name", *, hint: str = "") -> AfterValidator:
    """Return a validator for lists: no two items may have the same value of `attribute`. `hint` is added to the message."""
    what = {"title": "names"}.get(attribute, f"{attribute}s")

    def check(items: Items) -> Items:
        values = [getattr(item, attribute) for item in items]
        if len(set(values)) < len(values):
            raise ValueError(f"{what} must differ, found {values}{hint}")
        return items

    return AfterValidator(check)
