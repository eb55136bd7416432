"""Cost, accuracy and coverage of each student before the best teacher, from the answers to the holdout."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.budget import Price
from engine.evaluation.cost import Served, price_of
from engine.evaluation.result import EvalResult, best_teacher
from engine.records.certificate import CascadeCurve
from engine.serving.curve import Graded, curve

COLUMNS = ["exact", "confidence", "finish_reason", "seconds", "tokens_in", "tokens_out"]


def graded(table: pa.Table, names: Sequence[str], price: Price, roles: Mapping[str, str]) -> dict[str, Graded]:
    """Return the answers of each model of PREDICTION rows, sorted by prompt; models without rows are left out."""
    found = {}
    for name in dict.fromkeys(names):
        rows = table.filter(pc.equal(table["model"], name)).sort_by("prompt_id").select(COLUMNS)
        if rows.num_rows:
            found[name] = graded_rows(rows, price, teacher=name if roles.get(name) == "teacher" else None)
    return found


def graded_rows(rows: pa.Table, price: Price, *, teacher: str | None) -> Graded:
    """Return the answers in `rows`; a teacher's tokens have a price, too."""
    columns = {name: rows[name].to_pylist() for name in COLUMNS}
    seconds = [value for value in columns["seconds"] if value is not None and not np.isnan(value)]
    served = Served(
        right=np.array(columns["exact"], dtype=np.float64),
        sound=np.array([reason == "stop" for reason in columns["finish_reason"]], dtype=np.float64),
        confidence=np.array([np.nan if value is None else value for value in columns["confidence"]], dtype=np.float64),
        seconds=float(np.mean(seconds)) if seconds else None,
        tokens=np.column_stack([columns["tokens_in"], columns["tokens_out"]]).astype(np.float64),
    )
    return Graded(served.right, served.confidence, served.sound, price_of(served, price, teacher=teacher))


def curves(results: Sequence[EvalResult], price: Price, *, answer_above: float) -> tuple[CascadeCurve, ...]:
    """Return a curve for each student that gives a confidence, before the teacher with the highest exact match."""
    teacher = best_teacher(results)
    if teacher is None:
        return ()
    found = []
    for result in results:
        if result.target.role == "student" and not result.evaluated.error:
            models = {
                result.name: graded_rows(result.predictions, price, teacher=None),
                teacher.name: graded_rows(teacher.predictions, price, teacher=teacher.name),
            }
            if np.isfinite(models[result.name].confidence).any():
                found.append(curve(result.name, teacher.name, models, answer_above=answer_above or None))
    return tuple(found)
