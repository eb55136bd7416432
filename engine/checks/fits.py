"""Whether a value surely fits a JSON Schema, quickly: most answers do, and jsonschema takes fifty microseconds to say so.

jsonschema-rs says so at once, but not always the same: regular expressions are those of Rust, and a float is a multiple of another
by other arithmetic. So it is asked only where what it accepts is accepted by jsonschema: "surely" is one-sided, a value for which
this does not hold may fit all the same, and jsonschema decides, in its own words.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import jsonschema_rs

Fits = Callable[[Any], bool]

PATTERN = re.compile(r'"pattern(Properties)?":')
NOT_ALIKE = re.compile(
    r"\\|\(\?|\{,"  # in a pattern: escapes such as \w, look-arounds and flags, {,3}
    r'|"(not|oneOf|if|contains|patternProperties|unevaluated\w+)":'  # `$` of Rust matches less, so that these may accept more
)
ARITHMETIC = re.compile(r'"multipleOf":')


def fits(schema: Any) -> Fits | None:
    """Return a function that is true only of values that fit `schema`; None if that cannot be said of it."""
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if ARITHMETIC.search(text) or (PATTERN.search(text) and NOT_ALIKE.search(text)):
        return None
    try:
        is_valid = jsonschema_rs.validator_for(schema, validate_formats=False, retriever=_refuse).is_valid
    except ValueError:  # what is wrong with the schema, jsonschema says
        return None

    def test(value: Any) -> bool:
        try:
            return is_valid(value)
        except ValueError:  # a text that is no Unicode, a number that Rust does not read
            return False

    return test


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri}: a schema is read alone")
