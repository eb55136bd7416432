"""The answer is JSON and fits a schema."""

import json
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from engine.checks.outcome import Outcome, parse
from engine.contract.checks import JsonSchema


def check_json_schema(answer: str, text: str, check: JsonSchema, schema: dict[str, Any] | None) -> Outcome:
    """Pass if `answer` parses and, where the task unit has a `schema`, fits it (JSON Schema draft 2020-12)."""
    value = parse(answer)
    if value is None and answer.strip() != "null":
        return Outcome(check.type, False, "not_json", answer[:80])
    problem = next(_validator(json.dumps(schema)).iter_errors(value), None) if schema else None
    return Outcome(check.type, False, "off_schema", problem.message[:200]) if problem else Outcome(check.type, True)


@lru_cache(maxsize=32)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))
