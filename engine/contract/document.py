"""Writes the reference of all contract keys: `python -m engine.contract.document > jobs/contracts/README.md`.

The text before the reference is in `document.md`. Everything else comes from the models: names, types, defaults, and the docstring
under each field.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from engine.contract.base import Section
from engine.contract.contract import Contract
from engine.contract.profile import Profile

HEAD = Path(__file__).with_name("document.md")
LONGEST = 60  # characters of a default
SHOWN_CHOICES = 12  # values of a closed set
NAMES = {"str": "text", "bool": "true or false", "NoneType": "null", "None": "null", "Any": "any value"}


def document() -> str:
    """Return the text of jobs/contracts/README.md."""
    parts = [HEAD.read_text(encoding="utf-8").rstrip(), *_reference("Keys of a contract", Contract)]
    return "\n".join([*parts, *_reference("Keys of a cluster profile", Profile)]) + "\n"


def _reference(title: str, root: type[Section]) -> Iterator[str]:
    yield f"\n## {title}"
    headings: dict[type[Section], str] = {}
    for path, section in _sections(root, ""):
        headings.setdefault(section, path or root.__name__.lower())
    for section, heading in headings.items():
        yield f"\n### {heading}\n\n{_one_line(section.__doc__ or '')}\n"
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        yield from (_row(name, field, headings) for name, field in section.model_fields.items())


def _sections(section: type[Section], path: str) -> Iterator[tuple[str, type[Section]]]:
    """Yield every section below `path`, depth first, each with the path where it is used."""
    yield path, section
    for name, field in section.model_fields.items():
        for inner, step in _inner(field.annotation, ""):
            place = f"{path}.{name}{step}".lstrip(".")
            tag = _tag(inner)
            yield from _sections(inner, f"{place} (type: {tag})" if tag else place)


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


def _row(name: str, field: FieldInfo, headings: Mapping[type[Section], str]) -> str:
    default = "required" if field.is_required() else f"`{_default(field)}`"
    kind = _type(field.annotation, headings)
    bare = kind.removesuffix(" or null")
    cells = [f"`{name}`", bare + _limits(field.metadata) + kind.removeprefix(bare), default, _one_line(field.description or "")]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "\\<") for cell in cells) + " |"


def _type(kind: Any, headings: Mapping[type[Section], str]) -> str:
    """Return a type in words, such as `list of int`; a section as a link to its heading."""
    if isinstance(kind, type) and issubclass(kind, Section):
        anchor = re.sub(r"[^a-z0-9_ -]", "", headings[kind].lower()).replace(" ", "-")
        return f"[{_tag(kind) or 'section'}](#{anchor})"
    if kind is None or kind is Any or isinstance(kind, type):
        return NAMES.get(getattr(kind, "__name__", "None"), getattr(kind, "__name__", "null"))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        rules = [rule for item in arguments[1:] for rule in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _type(arguments[0], headings) + _limits(rules)
    if origin is Literal:
        more = " ..." if len(arguments) > SHOWN_CHOICES else ""
        return ", ".join(f"`{value}`" for value in arguments[:SHOWN_CHOICES]) + more
    if origin is dict:
        return f"mapping of {_type(arguments[0], headings)} to {_type(arguments[1], headings)}"
    if origin in (tuple, list):
        return f"list of {_type(arguments[0], headings)}"
    return " or ".join(dict.fromkeys(_type(argument, headings) for argument in arguments))


def _tag(section: type[Section]) -> str:
    """Return the `type` by which a section is chosen; an empty string if it has none."""
    kind = section.model_fields.get("type")
    return get_args(kind.annotation)[0] if kind and get_args(kind.annotation) else ""


def _limits(rules: Iterable[Any]) -> str:
    """Return the limits of a number, such as ` >= 1`."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [f"{sign} {getattr(rule, name):g}" for rule in rules for name, sign in signs.items() if hasattr(rule, name)]
    return f" {', '.join(limits)}" if limits else ""


def _default(field: FieldInfo) -> str:
    if field.default_factory_takes_validated_data:
        return "of another key"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "{}" if value == type(value).model_construct() else _short(value.model_dump(mode="json", exclude_defaults=True))
    return "" if value is PydanticUndefined else _short(value)


def _short(value: Any) -> str:
    text = json.dumps(value, default=lambda item: item.model_dump(mode="json") if isinstance(item, BaseModel) else str(item))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


if __name__ == "__main__":
    sys.stdout.write(document())
