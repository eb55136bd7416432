"""The answer is JSON and fits a schema."""

import json
from functools import lru_cache

from jsonschema import Draft202012Validator

from engine.checks.outcome import Outcome, Seen, outcome, parse
from engine.contract.checks import JsonSchema


def check_json_schema(seen: Seen, check: JsonSchema) -> Outcome:
    """Pass if the answer parses and, where the task unit has a schema, fits it (JSON Schema draft 2020-12)."""
    value = parse(seen.answer)
    if value is None and seen.answer.strip() != "null":
        return outcome(check.type, "not_json", seen.answer[:80])
    problem = next(_validator(json.dumps(seen.schema)).iter_errors(value), None) if seen.schema else None
    return outcome(check.type, "off_schema" if problem else "", problem.message if problem else "")


@lru_cache(maxsize=32)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))
