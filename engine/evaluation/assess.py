"""From graded predictions to the entries of `report.json`, one a model; all from the same resamples, so all paired."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.budget import Price
from engine.contract.evaluation import Evaluation
from engine.contract.specialist import Specialist
from engine.evaluation import cost, metrics
from engine.evaluation.examine import Examined, Subject
from engine.evaluation.metrics import Grades
from engine.stats import calibration, paired
from engine.stats.bootstrap import Array, Measure, Resamples, mean


class Sitting(NamedTuple):
    """One model's examination and its PREDICTION rows, which stand in the holdout's order for every model."""

    subject: Subject
    found: Examined
    predictions: pa.Table

    @property
    def name(self) -> str:
        return self.subject.name

    @property
    def right(self) -> Array:
        """(n,) 1 = right."""
        return np.array(self.predictions["exact"].to_pylist(), dtype=np.float64)


def assess(sittings: Sequence[Sitting], evaluation: Evaluation, specialist: Specialist, price: Price) -> list[dict[str, Any]]:
    """Return one entry a model; the README names the keys. A number that does not exist for a model is None."""
    rows = sittings[0].predictions.num_rows
    resamples = Resamples(rows, times=evaluation.bootstrap, level=evaluation.level, seed=evaluation.seed)
    teacher = best_teacher(sittings)
    units = {unit.name: unit for unit in specialist.task_units}
    entries = []
    for sitting in sittings:
        grades = metrics.grade(sitting.predictions, units)
        entries.append(
            {
                **_identity(sitting, teacher),
                "metrics": _metrics(sitting, grades, resamples),
                "fields": {name: metrics.field_scores(counts) for name, counts in grades.fields.items()},
                "checks": {name: resamples.value(metrics.passing(passes)) for name, passes in grades.checks.items()},
                "slices": _slices(sitting, grades, evaluation.slices, resamples),
                "latency": cost.latency(list(sitting.found.seconds.values())),
                "tokens_per_second": sitting.found.tokens_per_second,
                "memory_mib": sitting.found.memory_mib,
                "cost": _cost(sitting, teacher, price, answer_above=specialist.niche.answer_above),
                "calibration": {"bins": calibration.bins(grades.confidence, grades.exact)},
                "against_teacher": _against_teacher(sitting, teacher, resamples),
                "against_baselines": _against_baselines(sitting, sittings, resamples),
            }
        )
    return entries


def best_teacher(sittings: Sequence[Sitting]) -> Sitting | None:
    """Return the teacher with the highest exact match, of equals the first: what students are measured by."""
    teachers = [sitting for sitting in sittings if sitting.subject.role == "teacher"]
    return max(teachers, key=lambda sitting: float(sitting.right.sum()), default=None)


def unseen_rows(predictions: pa.Table) -> Array:
    """Mask of the rows whose scenario never occurs in training."""
    return ~np.array(predictions["seen"].to_pylist(), dtype=bool)


def _identity(sitting: Sitting, teacher: Sitting | None) -> dict[str, Any]:
    parameters = sitting.found.size.parameters
    whole = teacher.found.size.parameters if teacher else None
    return {
        "name": sitting.name,
        "role": sitting.subject.role,
        "parameters": parameters,
        "layers": sitting.found.size.layers,
        "size_vs_teacher": round(parameters / whole, 6) if parameters and whole else None,
        "error": sitting.found.error or None,
    }


def _metrics(sitting: Sitting, grades: Grades, resamples: Resamples) -> dict[str, Any]:
    unseen = unseen_rows(sitting.predictions)
    measures: dict[str, Measure | None] = {
        "exact_match": mean(grades.exact),
        "exact_match_unseen": mean(grades.exact, unseen),
        "exact_match_seen": mean(grades.exact, ~unseen),
        "field_f1": metrics.macro_f1(grades.fields),
        "schema_validity": metrics.passing(grades.valid),
        "abstain_precision": metrics.precision(grades.abstained),
        "abstain_recall": metrics.recall(grades.abstained),
        "ece": calibration.ece(grades.confidence, grades.exact),
        "brier": calibration.brier(grades.confidence, grades.exact),
    }
    return {name: resamples.value(measure) if measure else None for name, measure in measures.items()}


def _slices(sitting: Sitting, grades: Grades, dimensions: Sequence[str], resamples: Resamples) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def of(rows: Array) -> dict[str, Any]:
        checks = {name: resamples.value(metrics.passing(passes, rows)) for name, passes in grades.checks.items()}
        return {"n": int(rows.sum()), "exact_match": resamples.value(mean(sitting.right, rows)), "checks": checks}

    for dimension in dimensions:
        values = sitting.predictions[dimension].to_pylist()
        if dimension == "seen":
            values = ["seen" if value else "unseen" for value in values]
        labels = np.array(values, dtype=object)
        found[dimension] = {str(value): of(labels == value) for value in sorted(set(values), key=str)}
    return found


def _against_teacher(sitting: Sitting, teacher: Sitting | None, resamples: Resamples) -> dict[str, Any] | None:
    if teacher is None or sitting.name == teacher.name:
        return None
    unseen = unseen_rows(sitting.predictions)
    return {
        "teacher": teacher.name,
        "difference": resamples.value(paired.difference(sitting.right, teacher.right)),
        "retention": resamples.value(paired.retention(sitting.right, teacher.right)),
        "retention_unseen": resamples.value(paired.retention(sitting.right, teacher.right, unseen)),
    }


def _against_baselines(sitting: Sitting, sittings: Sequence[Sitting], resamples: Resamples) -> dict[str, Any]:
    others = [other for other in sittings if other.subject.role == "baseline" and other.name != sitting.name]
    return {other.name: resamples.value(paired.difference(sitting.right, other.right)) for other in others}


def _cost(sitting: Sitting, teacher: Sitting | None, price: Price, *, answer_above: float) -> dict[str, Any] | None:
    served = _served(sitting)
    if sitting.subject.role == "teacher":
        return cost.cost_alone(served, cost.price_of(served, price, teacher=sitting.name))
    if teacher is None:
        return None
    behind = _served(teacher)
    alone, falling_back = cost.price_of(served, price, teacher=None), cost.price_of(behind, price, teacher=teacher.name)
    return cost.cost(served, alone, behind, falling_back, answer_above=answer_above)


def _served(sitting: Sitting) -> cost.Served:
    columns: Mapping[str, list[Any]] = sitting.predictions.select(["ending", "confidence", "tokens_in", "tokens_out"]).to_pydict()
    seconds = list(sitting.found.seconds.values())
    return cost.Served(
        right=sitting.right,
        sound=np.array([ending == "stop" for ending in columns["ending"]], dtype=np.float64),
        confidence=np.array([np.nan if value is None else value for value in columns["confidence"]], dtype=np.float64),
        seconds=float(np.mean(seconds)) if seconds else None,
        tokens=np.column_stack([columns["tokens_in"], columns["tokens_out"]]).astype(np.float64),
    )
