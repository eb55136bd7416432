"""The answer is JSON and validates against a schema."""

import json
from functools import lru_cache
from typing import Any

from engine.checks.json_answer import read_json
from engine.checks.result import CheckInput, CheckResult, result
from engine.contract.answer_schema import validator
from engine.contract.checks import JsonSchema


def check_json_schema(inputs: CheckInput, check: JsonSchema) -> CheckResult:
    """Pass if the answer is JSON and, if the task unit has a schema, validates against it.

    The draft is the one that `$schema` names, 2020-12 without it. `format` is not checked: it is an annotation, as the draft says.
    """
    read = read_json(inputs.answer)
    if read is None:
        return result(check.type, "not_json", inputs.answer[:80])
    problem = next(_validator(json.dumps(inputs.schema)).iter_errors(read.value), None) if inputs.schema else None
    return result(check.type, "off_schema" if problem else "", problem.message if problem else "")


@lru_cache(maxsize=32)
def _validator(schema: str) -> Any:
    return validator(json.loads(schema))
