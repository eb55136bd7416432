"""Pairs completions with their references: PREDICTION rows."""

from collections.abc import Callable, Collection, Sequence
from math import exp

import pyarrow as pa

from engine.checks import CheckInput, is_exact, run_checks, without_text_before
from engine.contract.checks import Check
from engine.contract.specialist import TaskUnit
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.evaluation.metrics import is_valid
from engine.inference.engine import Completion
from engine.rows import PREDICTION, Row, from_rows


def unchanged(answer: str, unit: TaskUnit) -> str:
    """Return `answer`."""
    return answer


def predictions(
    target: EvalTarget,
    rows: Sequence[Row],
    evaluated: Evaluated,
    *,
    scenarios: Collection[str],
    final: Callable[[str, TaskUnit], str] = unchanged,
    checks: Sequence[Check] = (),
) -> pa.Table:
    """Return one PREDICTION row per HOLDOUT row, in order.

    `scenarios` are those of the training prompts. `final` removes the rationale from an answer of a task unit that supervises the
    process. Text before the JSON that the task unit allows is removed, too.
    """
    graded = []
    for index, (row, completion) in enumerate(zip(rows, evaluated.completions, strict=True)):
        unit = target.units[row["task_unit"]]
        schema = unit.output.json_schema
        answer = answer_of(completion, unit, final)
        checked = CheckInput.of({**row, "answer": answer, "trajectory": completion.trajectory}, unit)
        outcomes = run_checks(checks, checked, finish_reason=completion.finish_reason)
        graded.append(
            {
                **{name: row[name] for name in PREDICTION.names if name in row},
                "model": target.name,
                "role": target.role,
                "answer": answer,
                "finish_reason": completion.finish_reason,
                "confidence": confidence(completion),
                "seconds": evaluated.seconds.get(index),
                "tokens_in": completion.tokens_in,
                "tokens_out": completion.tokens_out,
                "seen": row["scenario"] in scenarios,
                "valid": is_valid(answer, schema),
                "checks": [outcome._asdict() for outcome in outcomes],
                "exact": completion.finish_reason == "stop" and is_exact(answer, row["reference"], schema),
            }
        )
    return from_rows(graded, PREDICTION)


def answer_of(completion: Completion, unit: TaskUnit, final: Callable[[str, TaskUnit], str] = unchanged) -> str:
    """Return the answer in a completion: without the rationale, and without text before its JSON where `unit` allows such text."""
    answer = final(completion.text, unit) if unit.supervise == "process" else completion.text
    return without_text_before(answer, unit)[1]


def confidence(completion: Completion) -> float | None:
    """Return the probability of the whole answer, the product over its tokens; None without log-probabilities."""
    return None if completion.logprob is None else min(1.0, exp(completion.logprob))
