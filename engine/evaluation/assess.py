"""From graded predictions to the entries of `report.json`, one a model; all from the same resamples, so all paired."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.budget import Price
from engine.contract.evaluation import Evaluation
from engine.contract.specialist import Specialist
from engine.evaluation import cost, metrics
from engine.evaluation.examine import EvalTarget, Examined
from engine.evaluation.metrics import Grades
from engine.stats import calibration, paired
from engine.stats.bootstrap import Array, Measure, Resamples, mean


class EvalResult(NamedTuple):
    """One model's examination and its PREDICTION rows, which stand in the holdout's order for every model."""

    target: EvalTarget
    found: Examined
    predictions: pa.Table

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def right(self) -> Array:
        """(n,) 1 = right."""
        return np.array(self.predictions["exact"].to_pylist(), dtype=np.float64)


def assess(results: Sequence[EvalResult], evaluation: Evaluation, specialist: Specialist, price: Price) -> list[dict[str, Any]]:
    """Return one entry a model; the README names the keys. A number that does not exist for a model is None."""
    rows = results[0].predictions.num_rows
    resamples = Resamples(rows, times=evaluation.bootstrap, level=evaluation.level, seed=evaluation.seed)
    teacher = best_teacher(results)
    units = {unit.name: unit for unit in specialist.task_units}
    entries = []
    for result in results:
        grades = metrics.grade(result.predictions, units)
        entries.append(
            {
                **_identity(result, teacher),
                "metrics": _metrics(result, grades, resamples),
                "fields": {name: metrics.field_scores(counts) for name, counts in grades.fields.items()},
                "checks": {name: resamples.value(metrics.passing(passes)) for name, passes in grades.checks.items()},
                "slices": _slices(result, grades, evaluation.slices, resamples),
                "latency": cost.latency(list(result.found.seconds.values())),
                "tokens_per_second": result.found.tokens_per_second,
                "memory_mib": result.found.memory_mib,
                "cost": _cost(result, teacher, price, answer_above=specialist.niche.answer_above),
                "calibration": {"bins": calibration.bins(grades.confidence, grades.exact)},
                "against_teacher": _against_teacher(result, teacher, resamples),
                "against_baselines": _against_baselines(result, results, resamples),
            }
        )
    return entries


def best_teacher(results: Sequence[EvalResult]) -> EvalResult | None:
    """Return the teacher with the highest exact match, of equals the first: what students are measured by."""
    teachers = [result for result in results if result.target.role == "teacher"]
    return max(teachers, key=lambda result: float(result.right.sum()), default=None)


def unseen_rows(predictions: pa.Table) -> Array:
    """Mask of the rows whose scenario never occurs in training."""
    return ~np.array(predictions["seen"].to_pylist(), dtype=bool)


def _identity(result: EvalResult, teacher: EvalResult | None) -> dict[str, Any]:
    parameters = result.found.size.parameters
    whole = teacher.found.size.parameters if teacher else None
    return {
        "name": result.name,
        "role": result.target.role,
        "parameters": parameters,
        "layers": result.found.size.layers,
        "size_vs_teacher": round(parameters / whole, 6) if parameters and whole else None,
        "error": result.found.error or None,
    }


def _metrics(result: EvalResult, grades: Grades, resamples: Resamples) -> dict[str, Any]:
    unseen = unseen_rows(result.predictions)
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


def _slices(result: EvalResult, grades: Grades, dimensions: Sequence[str], resamples: Resamples) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def of(rows: Array) -> dict[str, Any]:
        checks = {name: resamples.value(metrics.passing(passes, rows)) for name, passes in grades.checks.items()}
        return {"n": int(rows.sum()), "exact_match": resamples.value(mean(result.right, rows)), "checks": checks}

    for dimension in dimensions:
        values = result.predictions[dimension].to_pylist()
        if dimension == "seen":
            values = ["seen" if value else "unseen" for value in values]
        labels = np.array(values, dtype=object)
        found[dimension] = {str(value): of(labels == value) for value in sorted(set(values), key=str)}
    return found


def _against_teacher(result: EvalResult, teacher: EvalResult | None, resamples: Resamples) -> dict[str, Any] | None:
    if teacher is None or result.name == teacher.name:
        return None
    unseen = unseen_rows(result.predictions)
    return {
        "teacher": teacher.name,
        "difference": resamples.value(paired.difference(result.right, teacher.right)),
        "retention": resamples.value(paired.retention(result.right, teacher.right)),
        "retention_unseen": resamples.value(paired.retention(result.right, teacher.right, unseen)),
    }


def _against_baselines(result: EvalResult, results: Sequence[EvalResult], resamples: Resamples) -> dict[str, Any]:
    others = [other for other in results if other.target.role == "baseline" and other.name != result.name]
    return {other.name: resamples.value(paired.difference(result.right, other.right)) for other in others}


def _cost(result: EvalResult, teacher: EvalResult | None, price: Price, *, answer_above: float) -> dict[str, Any] | None:
    served = _served(result)
    if result.target.role == "teacher":
        return cost.cost_alone(served, cost.price_of(served, price, teacher=result.name))
    if teacher is None:
        return None
    behind = _served(teacher)
    alone, falling_back = cost.price_of(served, price, teacher=None), cost.price_of(behind, price, teacher=teacher.name)
    return cost.cost(served, alone, behind, falling_back, answer_above=answer_above)


def _served(result: EvalResult) -> cost.Served:
    columns: Mapping[str, list[Any]] = result.predictions.select(
        ["finish_reason", "confidence", "tokens_in", "tokens_out"]
    ).to_pydict()
    seconds = list(result.found.seconds.values())
    return cost.Served(
        right=result.right,
        sound=np.array([finish_reason == "stop" for finish_reason in columns["finish_reason"]], dtype=np.float64),
        confidence=np.array([np.nan if value is None else value for value in columns["confidence"]], dtype=np.float64),
        seconds=float(np.mean(seconds)) if seconds else None,
        tokens=np.column_stack([columns["tokens_in"], columns["tokens_out"]]).astype(np.float64),
    )
