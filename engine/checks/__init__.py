"""Deterministic verifiers, used by judges and by evaluation alike. A dict chooses by `type`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.checks.fields import check_choice, check_numeric, check_regex
from engine.checks.grounded import check_grounded
from engine.checks.json_schema import check_json_schema
from engine.checks.outcome import TAGS, Outcome, Seen, canonical, is_abstention, parse
from engine.checks.tools import check_tools
from engine.contract.checks import Check

CHECKS: dict[str, Callable[..., Outcome]] = {
    "json_schema": check_json_schema,
    "grounded": check_grounded,
    "choice": check_choice,
    "regex": check_regex,
    "numeric": check_numeric,
    "tools": check_tools,
}


def run_checks(
    checks: Sequence[Check],
    *,
    answer: str,
    text: str,
    schema: dict[str, Any] | None,
    trajectory: Sequence[Mapping[str, Any]] = (),
) -> list[Outcome]:
    """Return what each check says of `answer` to the prompt `text`, in order."""
    seen = Seen(answer, text, schema, trajectory)
    return [CHECKS[check.type](seen, check) for check in checks]


__all__ = ["CHECKS", "TAGS", "Outcome", "canonical", "is_abstention", "parse", "run_checks"]
