"""Whether a value surely fits a JSON Schema, quickly: most answers do, and the library takes fifty microseconds to say so.

Only schemas of the draft 2020-12 whose keywords are all listed here are read. "Surely" is one-sided: a value for which this does
not hold may fit all the same, and jsonschema decides, in its own words.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Fits = Callable[[Any], bool]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
WITHOUT_EFFECT = frozenset(
    "$comment $defs default definitions deprecated description examples format readOnly title writeOnly".split()
)
"""Keywords that no value fails: `format` is an annotation, and without `$ref`, which is not read here, nothing uses definitions."""


class _Unread(Exception):
    """The schema has a keyword, or a value of one, that is not read here."""


def fits(schema: Any) -> Fits | None:
    """Return a function that is true only of values that fit `schema`; None if the schema is not read here."""
    try:
        if isinstance(schema, Mapping):
            if schema.get("$schema", DRAFT).rstrip("#") != DRAFT:
                return None
            schema = {key: value for key, value in schema.items() if key != "$schema"}
        return _compiled(schema)
    except (_Unread, AttributeError, KeyError, OverflowError, TypeError, re.error):
        return None


def _compiled(schema: Any) -> Fits:
    if isinstance(schema, bool):
        return lambda value: schema
    tests: list[Fits] = []
    for keyword, argument in schema.items():
        if keyword in KEYWORDS:
            tests.append(KEYWORDS[keyword](argument))
        elif keyword not in WITHOUT_EFFECT and keyword not in ("additionalProperties", "properties"):
            raise _Unread(keyword)
    if "additionalProperties" in schema or "properties" in schema:
        tests.append(_properties(schema.get("properties", {}), schema.get("additionalProperties", True)))
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


def _properties(named: Mapping[str, Any], others: Any) -> Fits:
    known = {name: _compiled(child) for name, child in named.items()}
    rest = _compiled(others)

    def test(value: Any) -> bool:
        return not isinstance(value, dict) or all(known.get(name, rest)(item) for name, item in value.items())

    return test


def _type(names: Any) -> Fits:
    tests = [TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: Mapping[str, Fits] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "null": lambda value: value is None,
    "number": _is_number,
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}


def _enum(allowed: Any) -> Fits:
    """Numbers and containers, which compare in their own way, are left to jsonschema."""
    texts = frozenset(value for value in allowed if isinstance(value, str))
    has_null = any(value is None for value in allowed)
    return lambda value: value in texts if isinstance(value, str) else value is None and has_null


def _pattern(pattern: str) -> Fits:
    search = re.compile(pattern).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _required(names: Any) -> Fits:
    wanted = list(names)
    return lambda value: not isinstance(value, dict) or all(name in value for name in wanted)


def _items(schema: Any) -> Fits:
    test = _compiled(schema)
    return lambda value: not isinstance(value, list) or all(map(test, value))


def _any_of(schemas: Any) -> Fits:
    tests = [_compiled(schema) for schema in schemas]
    return lambda value: any(test(value) for test in tests)


def _all_of(schemas: Any) -> Fits:
    tests = [_compiled(schema) for schema in schemas]
    return lambda value: all(test(value) for test in tests)


def _size(kind: type, compare: Callable[[int, int], bool]) -> Callable[[Any], Fits]:
    return lambda bound: lambda value: not isinstance(value, kind) or compare(len(value), bound)


def _bound(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Fits]:
    return lambda bound: lambda value: not _is_number(value) or compare(value, bound)


KEYWORDS: Mapping[str, Callable[[Any], Fits]] = {
    "allOf": _all_of,
    "anyOf": _any_of,
    "const": lambda value: _enum([value]),
    "enum": _enum,
    "exclusiveMaximum": _bound(lambda value, bound: value < bound),
    "exclusiveMinimum": _bound(lambda value, bound: value > bound),
    "items": _items,
    "maximum": _bound(lambda value, bound: value <= bound),
    "maxItems": _size(list, lambda size, bound: size <= bound),
    "maxLength": _size(str, lambda size, bound: size <= bound),
    "maxProperties": _size(dict, lambda size, bound: size <= bound),
    "minimum": _bound(lambda value, bound: value >= bound),
    "minItems": _size(list, lambda size, bound: size >= bound),
    "minLength": _size(str, lambda size, bound: size >= bound),
    "minProperties": _size(dict, lambda size, bound: size >= bound),
    "pattern": _pattern,
    "required": _required,
    "type": _type,
}
