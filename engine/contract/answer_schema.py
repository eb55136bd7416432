"""JSON schemas of answers: what is wrong with one is found before anything is paid for.

Found are: values that are not JSON, breaches of the draft that `$schema` names (2020-12 without it), a `$ref` that leads nowhere in
the schema itself, patterns that do not compile, and contradictions that one subschema shows by itself: nothing can fit it.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

ONE = (
    "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
"""Keywords whose value is a schema."""
LISTED = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
"""Keywords whose value may be a list of schemas."""
NAMED = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")
"""Keywords whose value maps names to schemas."""
IN_PLACE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")
"""Keywords whose schemas apply to the same value as the schema that holds them."""
HYPOTHETICAL = ("if", "not")
"""Keywords whose schemas need not hold."""
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
ORDERED = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"), ("minContains", "maxContains"))

Schema = Any
"""A JSON Schema: a mapping or a boolean."""


class Place(NamedTuple):
    """A subschema and where it stands."""

    path: str  # such as `.properties.a`
    schema: Schema
    names: frozenset[str]  # properties that schemas around it declare for the same value
    supposed: bool  # below `not` or `if`


def schema_problems(schema: Schema) -> list[str]:
    """Return what is wrong with `schema`, each problem after its place, such as `.properties.a.type: ...`."""
    if found := list(_foreign(schema, "")):
        return found
    from jsonschema.validators import validator_for

    dialect = _dialect(schema)
    meta = validator_for(dialect.META_SCHEMA)(dialect.META_SCHEMA)
    if found := [f"{_dotted(error.absolute_path)}: {_explained(error)}" for error in meta.iter_errors(schema)]:
        return list(dict.fromkeys(found))
    places = list(subschemas(schema))
    if found := [problem for place in places for problem in _unresolved(schema, place)]:
        return found
    found = [problem for place in places for problem in _unreadable_patterns(place)]
    return found or [problem for place in places if not place.supposed for problem in _contradictions(schema, place)]


def validator(schema: Schema) -> "Validator":
    """Return a validator of the draft that `$schema` names, 2020-12 without it. `format` is an annotation, as the draft says."""
    return _dialect(schema)(schema)


def subschemas(schema: Schema, path: str = "", names: frozenset[str] = frozenset(), supposed: bool = False) -> Iterator[Place]:
    """Yield `schema` and all schemas below it."""
    yield Place(path, schema, names, supposed)
    if not isinstance(schema, dict):
        return
    own = names | set(schema.get("properties", {}))
    for key, value in schema.items():
        below = own if key in IN_PLACE else frozenset()
        unsure = supposed or key in HYPOTHETICAL
        children: Iterable[tuple[str, Schema]] = ()
        if key in NAMED:
            children = [(f".{key}.{name}", child) for name, child in value.items() if isinstance(child, dict | bool)]
        elif key in LISTED and isinstance(value, list):
            children = [(f".{key}.{number}", child) for number, child in enumerate(value)]
        elif key in ONE:
            children = [(f".{key}", value)]
        for step, child in children:
            yield from subschemas(child, path + step, below, unsure)


def resolve(root: Schema, reference: str) -> Schema:
    """Return the schema that a `$ref` of `root` leads to, by pointer, `$anchor` or `$id`.

    Raises:
        LookupError: nothing in `root` has this name.
    """
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    dialect = root.get("$schema", "") if isinstance(root, dict) else ""
    try:
        specification = specification_with(dialect, default=DRAFT202012)
    except Exception:  # an unknown dialect is read as the newest draft, as jsonschema does
        specification = DRAFT202012
    resource = specification.create_resource(root)
    base = resource.id() or ""
    try:
        return Registry().with_resource(base, resource).crawl().resolver(base).lookup(reference).contents
    except (Unresolvable, ValueError) as error:
        raise LookupError(reference) from error


def allowed_types(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the types that `type` allows; all of them without it."""
    kinds = schema.get("type")
    return frozenset(TYPES if kinds is None else [kinds] if isinstance(kinds, str) else kinds)


def integer_bounds(schema: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the smallest and the largest integer that the bounds of `schema` allow; None = no bound."""
    low = [math.ceil(value) for value in _numbers(schema, "minimum")]
    low += [math.floor(value) + 1 for value in _numbers(schema, "exclusiveMinimum")]
    high = [math.floor(value) for value in _numbers(schema, "maximum")]
    high += [math.ceil(value) - 1 for value in _numbers(schema, "exclusiveMaximum")]
    return max(low, default=None), min(high, default=None)


def _numbers(schema: Mapping[str, Any], key: str) -> list[int | float]:
    value = schema.get(key)
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []  # draft 4: exclusiveMinimum: true


def _dialect(schema: Schema) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)


def _foreign(value: Any, path: str) -> Iterator[str]:
    """Yield each value that JSON does not have: YAML reads `.nan`, keys such as 1, and what has a tag."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            if isinstance(key, str):
                yield from _foreign(child, f"{path}.{key}")
            else:
                yield f"{path}: found the key {key!r}, which YAML reads as {type(key).__name__}; quote it"
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for number, child in enumerate(value):
            yield from _foreign(child, f"{path}.{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: found {value}, which is no number of JSON"
    elif isinstance(value, date):
        yield f"{path}: found the date {value}, expected text; quote it"
    elif not isinstance(value, str | int | float | bool | None):
        yield f"{path}: found a {type(value).__name__}, which JSON does not have"


def _explained(error: Any) -> str:
    found = json.dumps(error.instance)[:80]
    if error.absolute_path and error.absolute_path[-1] == "type" and isinstance(error.instance, str):
        near = get_close_matches(error.instance, TYPES, n=1)
        return f"found {found}, expected one of {', '.join(TYPES)}{f'; perhaps {near[0]}' if near else ''}"
    if error.validator == "type":
        return f"found {found}, expected {' or '.join(_listed(error.validator_value))}"
    return f"{error.message[:200]}; this is no JSON Schema"


def _unresolved(root: Schema, place: Place, seen: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(place.schema, dict):
        return
    reference = place.schema.get("$ref")
    if reference is not None:
        try:
            target = resolve(root, reference)
        except LookupError:
            yield f"{place.path}.$ref: found nothing at {reference!r}; put the schema into $defs of this one: '#/$defs/NAME'"
            return
        if reference in seen:
            yield f"{place.path}.$ref: {reference!r} leads back to itself and to no schema"
        elif not isinstance(target, dict | bool):
            yield f"{place.path}.$ref: {reference!r} leads to {json.dumps(target)[:60]}, which is no schema"
        else:
            yield from _unresolved(root, place._replace(schema=target), (*seen, reference))
    for branch in place.schema.get("allOf", ()) if seen else ():
        yield from _unresolved(root, place._replace(schema=branch), seen)


def _unreadable_patterns(place: Place) -> Iterator[str]:
    if not isinstance(place.schema, dict):
        return
    patterns = [(".pattern", place.schema["pattern"])] if "pattern" in place.schema else []
    patterns += [(f".patternProperties.{pattern}", pattern) for pattern in place.schema.get("patternProperties", ())]
    for key, pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, OverflowError) as error:
            yield (
                f"{place.path}{key}: {pattern!r} is no regular expression of Python's `re`, which checks answers: {error}; write "
                r"[^\W\d_] for \p{L}, and quote patterns in YAML with '...'"
            )


def _contradictions(root: Schema, place: Place) -> Iterator[str]:
    """Yield what makes the subschema impossible, as far as it shows without regard to other schemas."""
    path, schema = place.path, place.schema
    if not isinstance(schema, dict):
        return
    if schema.get("not") in (True, {}):
        yield f"{path}.not: nothing fits it; drop it"
    for low, high in ORDERED:
        if schema.get(low, 0) > schema.get(high, math.inf):
            yield f"{path}: {low} {schema[low]} is above {high} {schema[high]}, so nothing fits; swap them"
    yield from _empty_ranges(path, schema)
    yield from _impossible_values(root, path, schema)
    yield from _impossible_properties(root, place)


def _empty_ranges(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    kinds = allowed_types(schema) - {"integer"} if "number" in allowed_types(schema) else allowed_types(schema)
    if not {"number", "integer"} & kinds or "type" not in schema:
        return
    low, high = integer_bounds(schema)
    if "integer" in kinds and low is not None and high is not None and low > high:
        yield f"{path}: no integer lies within its bounds, from {low} up to {high}; correct minimum and maximum"
    elif "number" in kinds:
        least = max([*_numbers(schema, "minimum"), *_numbers(schema, "exclusiveMinimum")], default=-math.inf)
        most = min([*_numbers(schema, "maximum"), *_numbers(schema, "exclusiveMaximum")], default=math.inf)
        touching = least in _numbers(schema, "exclusiveMinimum") or most in _numbers(schema, "exclusiveMaximum")
        if least > most or (least == most and touching):
            yield f"{path}: no number lies within its bounds, {least:g} and {most:g}; correct minimum and maximum"


def _impossible_values(root: Schema, path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    values = fitting_values(root, schema)
    if values == []:
        key = "enum" if "enum" in schema else "const"
        found = json.dumps(schema[key])[:80]
        rest = f"fits the rest of this schema (type {schema['type']})" if "type" in schema else "fits the rest of this schema"
        yield f"{path}.{key}: nothing of {found} {rest}; true, false and numbers are text only if quoted, yes and no are text"


def fitting_values(root: Schema, schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the values of `enum` or `const` that fit the other keywords of `schema`, too; None if it has neither keyword."""
    if "enum" not in schema and "const" not in schema:
        return None
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    rest = {key: value for key, value in schema.items() if key != "enum"}
    check = validator(root).evolve(schema=rest)
    return [value for value in values if check.is_valid(value)]


def _impossible_properties(root: Schema, place: Place) -> Iterator[str]:
    path, schema = place.path, place.schema
    required = schema.get("required", [])
    if not isinstance(required, list):  # draft 3
        return
    others = schema.get("additionalProperties")
    names = place.names | _declared(root, schema, ())
    patterns = schema.get("patternProperties", {})
    if others is False or ("properties" in schema and others is None):
        missing = [name for name in required if name not in names and not any(re.search(pattern, name) for pattern in patterns)]
        if missing:
            known = ", ".join(sorted(names)) or "none"
            yield f"{path}.required: found {missing}, which is not among its properties ({known}); declare it there or take it out"
    forbidden = [name for name in required if schema.get("properties", {}).get(name) is False]
    if forbidden:
        yield f"{path}.required: {forbidden} is required, and its schema is false; take it out of one of them"
    if len(set(required)) > schema.get("maxProperties", math.inf):
        yield f"{path}.maxProperties: {schema['maxProperties']} is below the {len(set(required))} names of `required`"
    if others is False and not patterns and schema.get("minProperties", 0) > len(names):
        yield f"{path}.minProperties: {schema['minProperties']} is above its {len(names)} properties, and others are forbidden"
    first = len(schema.get("prefixItems", ()))
    if schema.get("items") is False and schema.get("minItems", 0) > first:
        yield f"{path}.minItems: {schema['minItems']} is above its {first} prefixItems, and others are forbidden"


def _declared(root: Schema, schema: Schema, seen: tuple[str, ...]) -> frozenset[str]:
    """Return the properties that `schema` or a schema in its place declares."""
    if not isinstance(schema, dict):
        return frozenset()
    names = frozenset(schema.get("properties", {}))
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        names |= _declared(root, resolve(root, reference), (*seen, reference))
    for key in IN_PLACE:
        value = schema.get(key, ())
        children = value if isinstance(value, list) else value.values() if key == "dependentSchemas" and value else [value]
        names = names.union(*(_declared(root, child, seen) for child in children))
    return names


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _dotted(path: Iterable[str | int]) -> str:
    return "".join(f".{part}" for part in path)
