"""The answer is JSON and validates against a schema."""

import json
from functools import lru_cache

from jsonschema import Draft202012Validator

from engine.checks.result import CheckInput, CheckResult, parse, result
from engine.contract.checks import JsonSchema


def check_json_schema(inputs: CheckInput, check: JsonSchema) -> CheckResult:
    """Pass if the answer parses and, if the task unit has a schema, validates against it (JSON Schema draft 2020-12)."""
    value = parse(inputs.answer)
    if value is None and inputs.answer.strip() != "null":
        return result(check.type, "not_json", inputs.answer[:80])
    problem = next(_validator(json.dumps(inputs.schema)).iter_errors(value), None) if inputs.schema else None
    return result(check.type, "off_schema" if problem else "", problem.message if problem else "")


@lru_cache(maxsize=32)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))
