"""Describes contract keys in words, from the models: paths, types, limits, defaults, and the docstring under each field."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from engine.contract.base import Section

LONGEST = 60  # characters of a default
SHOWN_CHOICES = 12  # values of a closed set
NAMES = {"str": "text", "bool": "true or false", "NoneType": "null", "None": "null", "Any": "any value"}

Link = Callable[[type[Section]], str]
"""Returns how a type that is a section is written."""


def sections(section: type[Section], path: str) -> Iterator[tuple[str, type[Section]]]:
    """Yield every section below `path`, depth first, each with the path where it is used."""
    yield path, section
    for name, field in section.model_fields.items():
        for inner, step in _inner(field.annotation, ""):
            place = f"{path}.{name}{step}".lstrip(".")
            tag = tag_of(inner)
            yield from sections(inner, f"{place} (type: {tag})" if tag else place)


def _inner(kind: Any, step: str) -> Iterator[tuple[type[Section], str]]:
    """Yield the sections in a type, and the path from it to each: `.N` for an item of a list, `.KEY` for one of a mapping."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if issubclass(kind, Section):
            yield kind, step
        return
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict:
        yield from _inner(arguments[1], f"{step}.KEY")
        return
    for argument in arguments:
        if argument is not Ellipsis:
            yield from _inner(argument, f"{step}.N" if origin in (tuple, list) else step)


def type_words(kind: Any, link: Link) -> str:
    """Return a type in words, such as `list of int`; a section as `link` writes it."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return link(kind)
    if kind is None or kind is Any or isinstance(kind, type):
        return NAMES.get(getattr(kind, "__name__", "None"), getattr(kind, "__name__", "null"))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        rules = [rule for item in arguments[1:] for rule in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return type_words(arguments[0], link) + limits(rules)
    if origin is Literal:
        more = " ..." if len(arguments) > SHOWN_CHOICES else ""
        return ", ".join(f"`{value}`" for value in arguments[:SHOWN_CHOICES]) + more
    if origin is dict:
        return f"mapping of {type_words(arguments[0], link)} to {type_words(arguments[1], link)}"
    if origin in (tuple, list):
        return f"list of {type_words(arguments[0], link)}"
    return " or ".join(dict.fromkeys(type_words(argument, link) for argument in arguments))


def tag_of(section: type[Section]) -> str:
    """Return the `type` by which a section is chosen; an empty string if it has none."""
    kind = section.model_fields.get("type")
    return get_args(kind.annotation)[0] if kind and get_args(kind.annotation) else ""


def limits(rules: Iterable[Any]) -> str:
    """Return the limits of a number, such as ` >= 1`."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [f"{sign} {getattr(rule, name):g}" for rule in rules for name, sign in signs.items() if hasattr(rule, name)]
    return f" {', '.join(found)}" if found else ""


def limited_words(field: FieldInfo, link: Link) -> str:
    """Return the type of a key with its limits, such as `int > 0 or null`."""
    kind = type_words(field.annotation, link)
    bare = kind.removesuffix(" or null")
    return bare + limits(field.metadata) + kind.removeprefix(bare)


def default_words(field: FieldInfo) -> str:
    """Return the default of a key as JSON, at most LONGEST characters; "" if it has none that can be written."""
    if field.default_factory_takes_validated_data:
        return "of another key"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "{}" if value == type(value).model_construct() else _short(value.model_dump(mode="json", exclude_defaults=True))
    return "" if value is PydanticUndefined else _short(value)


def _short(value: Any) -> str:
    text = json.dumps(value, default=lambda item: item.model_dump(mode="json") if isinstance(item, BaseModel) else str(item))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def one_line(text: str) -> str:
    """Return `text` without line breaks and runs of spaces."""
    return re.sub(r"\s+", " ", text).strip()


def choices(kind: Any) -> tuple[Any, ...]:
    """Return the values of the closed sets in a type; empty if it has none, or if it is a section."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if isinstance(kind, type):
        return ()
    arguments = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return tuple(dict.fromkeys(value for argument in arguments for value in choices(argument)))


def sections_in(kind: Any) -> list[type[Section]]:
    """Return the sections that a value of this type may be or hold."""
    return list(dict.fromkeys(section for section, _ in _inner(kind, "")))
