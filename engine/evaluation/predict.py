"""Completions beside their references: PREDICTION rows."""

from collections.abc import Collection, Mapping, Sequence
from math import exp
from typing import Any

import pyarrow as pa

from engine.evaluation.examine import Examined, Subject
from engine.evaluation.metrics import is_exact, is_valid
from engine.models import Completion
from engine.rows import PREDICTION, from_rows


def predictions(subject: Subject, rows: Sequence[Mapping[str, Any]], found: Examined, *, scenarios: Collection[str]) -> pa.Table:
    """Return one PREDICTION row a HOLDOUT row, in order. `scenarios` are those of the training prompts."""
    graded = []
    for index, (row, said) in enumerate(zip(rows, found.completions, strict=True)):
        schema = subject.units[row["task_unit"]].output.json_schema
        graded.append(
            {
                **{name: row[name] for name in PREDICTION.names if name in row},
                "model": subject.name,
                "role": subject.role,
                "answer": said.text,
                "ending": said.ending,
                "confidence": confidence(said),
                "seconds": found.seconds.get(index),
                "tokens_in": said.tokens_in,
                "tokens_out": said.tokens_out,
                "seen": row["scenario"] in scenarios,
                "valid": is_valid(said.text, schema),
                "exact": said.ending == "stop" and is_exact(said.text, row["reference"], schema),
            }
        )
    return from_rows(graded, PREDICTION)


def confidence(said: Completion) -> float | None:
    """Probability of the whole answer: the product over its tokens. None where the model gives none."""
    return None if said.logprob is None else min(1.0, exp(said.logprob))
