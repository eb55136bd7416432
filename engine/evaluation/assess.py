"""Turns graded predictions into the entries of `report.json`, one per model; one set of resamples makes all comparisons paired."""

from collections.abc import Mapping, Sequence

import numpy as np

from engine.contract.budget import Price
from engine.contract.evaluation import Evaluation
from engine.contract.models import EndpointModel
from engine.contract.specialist import Specialist
from engine.evaluation import cost, metrics
from engine.evaluation.metrics import Grades
from engine.evaluation.requirements import GateContext, Scene, requirement_tests
from engine.evaluation.result import EvalResult, best_teacher, clusters_of, unseen_rows
from engine.records.estimate import Estimate
from engine.records.report import Calibration, Cost, Metrics, ModelEntry, Slice, StudentComparison, TeacherComparison
from engine.stats import calibration, paired
from engine.stats.bootstrap import Array, Measure, Resamples, mean

NO_GATE = GateContext()


def assess(
    results: Sequence[EvalResult],
    evaluation: Evaluation,
    specialist: Specialist,
    price: Price,
    context: GateContext = NO_GATE,
) -> tuple[ModelEntry, ...]:
    """Return one entry per model, in the order of `results`. A number that does not exist for a model is None.

    Every interval and every test of the gate in `context` draws clusters, not rows.
    """
    scene = _scene(results, evaluation, context)
    resamples, teacher = scene.resamples, scene.teacher
    teacher_parameters = teacher.evaluated.size.parameters if teacher else None
    units = {unit.name: unit for unit in specialist.task_units}
    twins = context.gate.hurt_by.twins if context.gate.hurt_by else {}
    entries = []
    for result in results:
        grades = metrics.grade(result.predictions, units)
        evaluated, parameters = result.evaluated, result.evaluated.size.parameters
        requests = _spent(result, teacher, price, answer_above=specialist.niche.answer_above)
        is_decided = result.target.role == "student"
        entries.append(
            ModelEntry(
                name=result.name,
                role=result.target.role,
                parameters=parameters,
                weight_bytes=evaluated.size.weight_bytes,
                runtime=None if result.target.role == "baseline" else result.target.model.type,
                exported_from=result.target.exported_from,
                layers=evaluated.size.layers,
                size_vs_teacher=round(parameters / teacher_parameters, 6) if parameters and teacher_parameters else None,
                error=evaluated.error or None,
                metrics=_metrics(result, grades, resamples),
                fields={name: metrics.field_scores(counts) for name, counts in grades.fields.items()},
                checks=_checks(grades, resamples),
                slices=_slices(result, grades, evaluation.slices, resamples),
                latency=cost.latency(list(evaluated.seconds.values()), level=evaluation.level),
                tokens_per_second=evaluated.tokens_per_second,
                memory_mib=evaluated.memory_mib,
                cost=_cost(result, requests, price),
                calibration=Calibration(bins=tuple(calibration.reliability_bins(grades.confidence, grades.exact))),
                against_teacher=_against_teacher(result, teacher, resamples),
                against_student=_against_student(result, results, resamples),
                against_baselines=_against_baselines(result, results, resamples),
                against_twins=_against_twins(result, results, resamples, twins),
                tests=requirement_tests(result, grades, requests, scene) if is_decided and not evaluated.error else None,
            )
        )
    return tuple(entries)


def _scene(results: Sequence[EvalResult], evaluation: Evaluation, context: GateContext) -> Scene:
    clusters = clusters_of(results[0].predictions, context.labels)
    times, level = evaluation.bootstrap, evaluation.level
    resamples = Resamples(clusters.rows, times=times, level=level, seed=evaluation.seed, clusters=clusters)
    others = {result.name: result for result in results if not result.evaluated.error}
    masks = {
        f"{dimension} {value}": mask for dimension in evaluation.slices for value, mask in _masks(results[0], dimension).items()
    }
    return Scene(context.gate, clusters, resamples, best_teacher(results), others, context.champion, masks)


def _interval(measure: Measure | None, resamples: Resamples) -> Estimate | None:
    """Return the measure with its bootstrap interval; None where it is undefined."""
    return resamples.estimate(measure) if measure else None


def _metrics(result: EvalResult, grades: Grades, resamples: Resamples) -> Metrics:
    unseen = unseen_rows(result.predictions)
    measures: dict[str, Measure | None] = {
        "exact_match": mean(grades.exact),
        "exact_match_unseen": mean(grades.exact, unseen),
        "exact_match_seen": mean(grades.exact, ~unseen),
        "field_f1": metrics.macro_f1(grades.fields),
        "schema_validity": metrics.pass_rate(grades.valid),
        "abstain_precision": metrics.precision(grades.abstained),
        "abstain_recall": metrics.recall(grades.abstained),
        "ece": calibration.ece(grades.confidence, grades.exact),
        "brier": calibration.brier(grades.confidence, grades.exact),
    }
    return Metrics.model_validate({name: _interval(measure, resamples) for name, measure in measures.items()})


def _checks(grades: Grades, resamples: Resamples, rows: Array | None = None) -> dict[str, Estimate | None]:
    return {name: _interval(metrics.pass_rate(passes, rows), resamples) for name, passes in grades.checks.items()}


def _slices(result: EvalResult, grades: Grades, dimensions: Sequence[str], resamples: Resamples) -> dict[str, dict[str, Slice]]:
    slices: dict[str, dict[str, Slice]] = {}

    def score(rows: Array) -> Slice:
        exact_match = _interval(mean(result.right, rows), resamples)
        return Slice(n=int(rows.sum()), exact_match=exact_match, checks=_checks(grades, resamples, rows))

    for dimension in dimensions:
        slices[dimension] = {value: score(mask) for value, mask in _masks(result, dimension).items()}
    return slices


def _masks(result: EvalResult, dimension: str) -> dict[str, Array]:
    """Return value of `dimension` -> mask (n,) of its rows, by value."""
    values = result.predictions[dimension].to_pylist()
    if dimension == "seen":
        values = ["seen" if value else "unseen" for value in values]
    labels = np.array(values, dtype=object)
    return {str(value): labels == value for value in sorted(set(values), key=str)}


def _against_teacher(result: EvalResult, teacher: EvalResult | None, resamples: Resamples) -> TeacherComparison | None:
    if teacher is None or result.name == teacher.name:
        return None
    unseen = unseen_rows(result.predictions)
    return TeacherComparison(
        teacher=teacher.name,
        difference=_interval(paired.difference(result.right, teacher.right), resamples),
        retention=_interval(paired.retention(result.right, teacher.right), resamples),
        retention_unseen=_interval(paired.retention(result.right, teacher.right, unseen), resamples),
    )


def _against_student(result: EvalResult, results: Sequence[EvalResult], resamples: Resamples) -> StudentComparison | None:
    student = next((other for other in results if other.name == result.target.exported_from), None)
    if student is None:
        return None
    pairs = zip(result.predictions["answer"].to_pylist(), student.predictions["answer"].to_pylist(), strict=True)
    same = np.array([answer == other for answer, other in pairs], dtype=np.float64)
    return StudentComparison(
        student=student.name,
        same_answer=_interval(mean(same), resamples),
        difference=_interval(paired.difference(result.right, student.right), resamples),
    )


def _against_baselines(result: EvalResult, results: Sequence[EvalResult], resamples: Resamples) -> dict[str, Estimate | None]:
    baselines = [other for other in results if other.target.role == "baseline" and other.name != result.name]
    return {other.name: _interval(paired.difference(result.right, other.right), resamples) for other in baselines}


def _against_twins(
    result: EvalResult, results: Sequence[EvalResult], resamples: Resamples, twins: Mapping[str, str]
) -> dict[str, Estimate | None]:
    name = twins.get(result.name) if result.target.role == "student" else None
    others = [other for other in results if other.name == name and other.target.role == "student"]
    return {other.name: _interval(paired.difference(result.right, other.right), resamples) for other in others}


def _spent(result: EvalResult, teacher: EvalResult | None, price: Price, *, answer_above: float) -> cost.Spent | None:
    """Return what each request costs with fallback to the teacher; None for a teacher, and without one."""
    if result.target.role == "teacher" or teacher is None:
        return None
    served, fallback = served_by(result), served_by(teacher)
    own_price, fallback_price = cost.price_of(served, price, teacher=None), cost.price_of(fallback, price, teacher=teacher.name)
    requests = cost.spent(served, own_price, fallback, fallback_price, answer_above=answer_above)
    return cost.with_corrections(requests, price.per_correction)


def _cost(result: EvalResult, requests: cost.Spent | None, price: Price) -> Cost | None:
    if result.target.role == "teacher":
        served = served_by(result)
        return cost.cost_alone(served, cost.price_of(served, price, teacher=result.name), price.per_correction)
    return requests and cost.cost(requests)


def served_by(result: EvalResult) -> cost.Served:
    """Return a model's answers as `cost` reads them."""
    return cost.served(result.predictions, is_remote=isinstance(result.target.model, EndpointModel))
