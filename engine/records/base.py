"""What every record on disk and every `--json` output is: frozen, typed, documented field by field."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")
Json = dict[str, Any]
"""A JSON object whose keys another module defines."""


def unless(default: object) -> Callable[[object], bool]:
    """Return what leaves a key out of a record while it has its `default`: records without it are the same as before it existed."""
    return lambda value: value == default


class Record(BaseModel):
    """One record. A key that this version does not know is ignored: a newer version may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, protected_namespaces=())


class BeforeAfter(Record, Generic[T]):
    """One measure before and after a step."""

    before: T
    after: T
