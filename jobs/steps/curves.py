"""Cost, accuracy and coverage of each student before the best teacher, from the answers to the holdout."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.budget import Price
from engine.evaluation.assess import served_by
from engine.evaluation.cost import Served, price_of, served
from engine.evaluation.result import EvalResult, best_teacher
from engine.records.certificate import CascadeCurve
from engine.records.report import ModelEntry
from engine.serving.curve import Graded, curve


def graded(table: pa.Table, names: Sequence[str], price: Price, models: Iterable[ModelEntry]) -> dict[str, Graded]:
    """Return the answers of each model of PREDICTION rows, sorted by prompt; models without rows are left out."""
    entries, found = {model.name: model for model in models}, {}
    for name in dict.fromkeys(names):
        rows = table.filter(pc.equal(table["model"], name)).sort_by("prompt_id")
        if rows.num_rows:
            answers = served(rows, is_remote=entries[name].runtime == "endpoint")
            found[name] = priced(answers, price, teacher=name if entries[name].role == "teacher" else None)
    return found


def priced(answers: Served, price: Price, *, teacher: str | None) -> Graded:
    """Return `answers` with their prices; a teacher's tokens have one, too."""
    return Graded(answers.right, answers.confidence, answers.sound, price_of(answers, price, teacher=teacher))


def curves(results: Sequence[EvalResult], price: Price, *, answer_above: float) -> tuple[CascadeCurve, ...]:
    """Return a curve for each student that gives a confidence, before the teacher with the highest exact match."""
    teacher = best_teacher(results)
    if teacher is None:
        return ()
    found = []
    for result in results:
        if result.target.role == "student" and not result.evaluated.error:
            models = {
                result.name: priced(served_by(result), price, teacher=None),
                teacher.name: priced(served_by(teacher), price, teacher=teacher.name),
            }
            if np.isfinite(models[result.name].confidence).any():
                found.append(curve(result.name, teacher.name, models, answer_above=answer_above or None))
    return tuple(found)
