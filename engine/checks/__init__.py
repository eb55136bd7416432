"""Deterministic checks of an answer, used by grading, repair and evaluation. The dict `CHECKS` maps `type` to a function."""

from collections.abc import Callable, Sequence

from engine.checks.citations import check_citations
from engine.checks.code import check_code
from engine.checks.fields import check_choice, check_length, check_regex
from engine.checks.grounded import check_grounded
from engine.checks.json_answer import read_json, without_text_before
from engine.checks.json_schema import check_json_schema
from engine.checks.language import check_language
from engine.checks.mathematics import check_math
from engine.checks.numeric import check_numeric
from engine.checks.refusal import check_policy, check_refusal
from engine.checks.repetition import check_leaked_prompt, check_repetition
from engine.checks.result import NOT_COMPARED, TAGS, CheckInput, CheckResult, canonical, is_abstention, is_exact, parse, result
from engine.checks.sql import check_sql
from engine.checks.tools import check_tools
from engine.contract.checks import Check

CHECKS: dict[str, Callable[..., CheckResult]] = {
    "json_schema": check_json_schema,
    "grounded": check_grounded,
    "choice": check_choice,
    "regex": check_regex,
    "numeric": check_numeric,
    "math": check_math,
    "code": check_code,
    "sql": check_sql,
    "citations": check_citations,
    "language": check_language,
    "length": check_length,
    "repetition": check_repetition,
    "leaked_prompt": check_leaked_prompt,
    "refusal": check_refusal,
    "policy": check_policy,
    "tools": check_tools,
}


def run_checks(checks: Sequence[Check], inputs: CheckInput, *, finish_reason: str = "stop") -> list[CheckResult]:
    """Return one result for each check that applies to the task unit, in order.

    All of them fail as `no_answer` if `finish_reason` is not `stop`.

    Raises:
        MachineError: this machine lacks an isolation mechanism that a check `code` requires.
    """
    applicable = [check for check in checks if not check.task_units or inputs.task_unit in check.task_units]
    if finish_reason != "stop":
        return [result(check.title, "no_answer", f"it ended as {finish_reason}") for check in applicable]
    return [CHECKS[check.type](inputs, check)._replace(check=check.title) for check in applicable]


__all__ = [
    "CHECKS", "NOT_COMPARED", "TAGS", "CheckInput", "CheckResult", "canonical", "is_abstention", "is_exact", "parse", "read_json",
    "run_checks", "without_text_before",
]  # fmt: skip
