"""What every record on disk and every `--json` output is: frozen, typed, documented field by field."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler

from engine.docstrings import field_docs

T = TypeVar("T")
Json = dict[str, Any]
"""A JSON object whose keys another module defines."""


def unless(default: object) -> Callable[[object], bool]:
    """Return what leaves a key out of a record while it has its `default`: records without it are the same as before it existed."""
    return lambda value: value == default


class Record(BaseModel):
    """One record. A key that this version does not know is ignored: a newer version may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True, protected_namespaces=())

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> Json:
        """Return the JSON Schema of the record, in which each field has its docstring as description."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in field_docs(cls).items():
            properties.get(cls.model_fields[name].serialization_alias or name, {}).setdefault("description", text)
        return schema


class BeforeAfter(Record, Generic[T]):
    """One measure before and after a step."""

    before: T
    after: T
