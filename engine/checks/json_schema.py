"""The answer is JSON and validates against a schema."""

import json
from functools import lru_cache
from typing import Any

from engine.checks.fits import Fits, fits
from engine.checks.json_answer import shared_json
from engine.checks.result import CheckInput, CheckResult, result
from engine.contract.answer_schema import validator
from engine.contract.checks import JsonSchema


def check_json_schema(inputs: CheckInput, check: JsonSchema) -> CheckResult:
    """Pass if the answer is JSON and, if the task unit has a schema, validates against it.

    The draft is the one that `$schema` names, 2020-12 without it. `format` is not checked: it is an annotation, as the draft says.
    """
    read = shared_json(inputs.answer)
    if read is None:
        return result(check.type, "not_json", inputs.answer[:80])
    problem = _problem(inputs.schema, read.value) if inputs.schema else ""
    return result(check.type, "off_schema" if problem else "", problem)


def _problem(schema: Any, value: Any) -> str:
    """Return why `value` does not fit `schema`, in the words of jsonschema; "" if it fits, which is quick to see of most values."""
    is_valid, library = _validators(json.dumps(schema))
    if is_valid and is_valid(value):
        return ""
    error = next(library.iter_errors(value), None)
    return error.message if error else ""


@lru_cache(maxsize=32)
def _validators(schema: str) -> tuple[Fits | None, Any]:
    parsed = json.loads(schema)
    return fits(parsed), validator(parsed)
