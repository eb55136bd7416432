"""Whether a value surely fits a JSON Schema, quickly: most answers do, and jsonschema takes fifty microseconds to say so.

jsonschema-rs says so at once, but not always the same: its drafts, regular expressions and floats are not those of jsonschema. So
it is asked only where what it accepts is accepted by jsonschema: "surely" is one-sided, a value for which this does not hold may
fit all the same, and jsonschema decides, in its own words.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import jsonschema_rs

from engine.contract.answer_schema import subschemas

Fits = Callable[[Any], bool]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NOT_ALIKE = re.compile(r'"(multipleOf|dependencies|content\w+|\$schema)":')
"""Keywords that both do not read in the same way; `$schema` below the root changes the draft of jsonschema only."""
NEGATING = re.compile(r'"(not|oneOf|if|contains|patternProperties|unevaluated\w+)":')
"""Keywords by which a pattern that matches less, as `$` does in Rust, may accept more."""
PLAIN = re.compile(r"(?:[\w ,:;/#@!%=<>'^$.|)+*?-]|\((?!\?)|\{\d+(?:,\d*)?\}|\[\^?[\w ,:;/#@!%=<>'$.|()+*?-]+\])*", re.ASCII)
"""Patterns that mean the same in Python and in Rust, but for what ODD finds."""
ODD = re.compile(r"--|[+*?}]\+")  # a difference of classes in Rust, a possessive quantifier in Python


def fits(schema: Any) -> Fits | None:
    """Return a function that is true only of values that fit `schema`; None if that cannot be said of it."""
    if isinstance(schema, dict) and schema.get("$schema", DRAFT).rstrip("#") != DRAFT:
        return None
    below = {key: value for key, value in schema.items() if key != "$schema"} if isinstance(schema, dict) else schema
    text = json.dumps(below, ensure_ascii=False, separators=(",", ":"))
    if NOT_ALIKE.search(text) or ('"pattern' in text and (NEGATING.search(text) or not _are_plain(below))):
        return None
    try:
        is_valid = jsonschema_rs.Draft202012Validator(below, validate_formats=False, retriever=_refuse).is_valid
    except ValueError:  # what is wrong with the schema, jsonschema says
        return None

    def test(value: Any) -> bool:
        try:
            return is_valid(value)
        except ValueError:  # a text that is no Unicode, a number that Rust does not read
            return False

    return test


def _are_plain(schema: Any) -> bool:
    found = (place.schema.get("pattern", "") for place in subschemas(schema) if isinstance(place.schema, dict))
    return all(isinstance(pattern, str) and PLAIN.fullmatch(pattern) and not ODD.search(pattern) for pattern in found)


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri}: a schema is read alone")
