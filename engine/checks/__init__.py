"""Deterministic verifiers, used by judges and by evaluation alike. A dict chooses by `type`."""

from collections.abc import Callable, Sequence
from typing import Any

from engine.checks.fields import check_choice, check_numeric, check_regex
from engine.checks.grounded import check_grounded
from engine.checks.json_schema import check_json_schema
from engine.checks.outcome import TAGS, Outcome, canonical, is_abstention, parse
from engine.contract.checks import Check

CHECKS: dict[str, Callable[..., Outcome]] = {
    "json_schema": check_json_schema,
    "grounded": check_grounded,
    "choice": check_choice,
    "regex": check_regex,
    "numeric": check_numeric,
}


def run_checks(checks: Sequence[Check], *, answer: str, text: str, schema: dict[str, Any] | None) -> list[Outcome]:
    """Return what each check says of `answer` to the prompt `text`, in order."""
    return [CHECKS[check.type](answer, text, check, schema) for check in checks]


__all__ = ["CHECKS", "TAGS", "Outcome", "canonical", "is_abstention", "parse", "run_checks"]
