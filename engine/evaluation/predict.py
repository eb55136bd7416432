"""Completions beside their references: PREDICTION rows."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import exp
from typing import Any

import pyarrow as pa

from engine.checks import CheckInput, run_checks
from engine.contract.checks import Check
from engine.contract.specialist import TaskUnit
from engine.evaluation.examine import EvalTarget, Examined
from engine.evaluation.metrics import is_exact, is_valid
from engine.inference import Completion
from engine.rows import PREDICTION, from_rows


def whole(answer: str, unit: TaskUnit) -> str:
    """The answer as it stands."""
    return answer


def predictions(
    target: EvalTarget,
    rows: Sequence[Mapping[str, Any]],
    found: Examined,
    *,
    scenarios: Collection[str],
    final: Callable[[str, TaskUnit], str] = whole,
    checks: Sequence[Check] = (),
) -> pa.Table:
    """Return one PREDICTION row a HOLDOUT row, in order.

    `scenarios` are those of the training prompts. `final` takes the reasoning off an answer, where the task unit asks for one.
    """
    graded = []
    for index, (row, said) in enumerate(zip(rows, found.completions, strict=True)):
        unit = target.units[row["task_unit"]]
        schema = unit.output.json_schema
        answer = final(said.text, unit) if unit.supervise == "process" else said.text
        seen = {**row, "answer": answer, "trajectory": said.trajectory}
        graded.append(
            {
                **{name: row[name] for name in PREDICTION.names if name in row},
                "model": target.name,
                "role": target.role,
                "answer": answer,
                "finish_reason": said.finish_reason,
                "confidence": confidence(said),
                "seconds": found.seconds.get(index),
                "tokens_in": said.tokens_in,
                "tokens_out": said.tokens_out,
                "seen": row["scenario"] in scenarios,
                "valid": is_valid(answer, schema),
                "checks": [
                    one._asdict() for one in run_checks(checks, CheckInput.of(seen, unit), finish_reason=said.finish_reason)
                ],
                "exact": said.finish_reason == "stop" and is_exact(answer, row["reference"], schema),
            }
        )
    return from_rows(graded, PREDICTION)


def confidence(said: Completion) -> float | None:
    """Probability of the whole answer: the product over its tokens. None where the model gives none."""
    return None if said.logprob is None else min(1.0, exp(said.logprob))
