"""Sentences that a reader should know before reading the numbers."""

from collections.abc import Iterator, Sequence

from engine.records.gate import GateDecision
from engine.records.report import Holdout, ModelEntry

SMALL_HOLDOUT = 100  # prompts
WIDE_INTERVAL = 0.1  # of exact match
SMALLEST_SLICE = 10  # prompts below which a slice is not mentioned
FEWEST_CLUSTERS = 20  # below which the variance between clusters is hardly known
FEWEST_TIMED = 20  # timed prompts needed for more than one to lie above the 95th percentile


def findings(
    models: Sequence[ModelEntry], *, holdout: Holdout, gate: GateDecision, notes: Sequence[str] = (), level: float
) -> tuple[str, ...]:
    """Return the sentences, most serious first. `notes` come from the job, such as a judge that was never calibrated."""
    interval = f"{100 * level:g} % interval"
    sentences = [f"{model.name} could not be evaluated: {model.error}" for model in models if model.error]
    sentences += notes
    evaluated = [model for model in models if not model.error]
    sentences += _holdout(evaluated, holdout)
    for student in (model for model in evaluated if model.role == "student"):
        sentences += _against_teacher(student, interval)
        sentences += _against_baselines(student, interval)
        sentences += _use(student)
    for teacher in (model for model in evaluated if model.role == "teacher"):
        sentences += _teacher(teacher)
    sentences += _gate(gate, interval)
    return tuple(sentences)


def _holdout(models: Sequence[ModelEntry], holdout: Holdout) -> Iterator[str]:
    if holdout.rows < SMALL_HOLDOUT:
        yield f"The holdout is small: {holdout.rows} prompts."
    if holdout.unseen == 0:
        yield "Every scenario of the holdout occurs in training: the numbers do not show how the models do on new scenarios."
    elif holdout.unseen < SMALL_HOLDOUT:
        yield f"The numbers on unseen scenarios rest on {holdout.unseen} prompts."
    if 0 < holdout.clusters < min(FEWEST_CLUSTERS, holdout.rows):
        yield (
            f"The {holdout.rows} prompts are only {holdout.clusters} clusters, so every interval is rough. If their scenarios are "
            "fixed categories, not draws from many, set evaluation.cluster to none."
        )
    elif 0 < holdout.clusters < holdout.rows:
        yield f"The {holdout.rows} prompts are {holdout.clusters} independent clusters: every interval draws clusters, not prompts."
    exact = {m.name: m.metrics.exact_match for m in models if m.metrics.exact_match and m.role != "baseline"}
    wide = [name for name, value in exact.items() if value.high - value.low > WIDE_INTERVAL]
    if wide:
        yield f"The interval of exact match is wider than {100 * WIDE_INTERVAL:g} points for {', '.join(wide)}."
    for name, value in exact.items():
        if value.value in (0.0, 1.0):
            amount = "all" if value.value else "none"
            # Rule of three (Hanley and Lippman-Hand, JAMA 1983): no failure in n trials leaves a rate of up to 3 / n (95 %).
            error = f"yet the true rate may differ by {3 / value.n:.3f}"
            yield f"{name} got {amount} of {value.n} right: its bootstrap interval has no width, {error}."


def _against_teacher(student: ModelEntry, interval: str) -> Iterator[str]:
    comparison = student.against_teacher
    gap = comparison and comparison.difference
    if not comparison or not gap:
        return
    numbers = f"{gap.value:+.3f} exact match, {interval} {gap.low:+.3f} to {gap.high:+.3f}"
    if gap.high < 0:
        yield f"{student.name} is worse than {comparison.teacher}: {numbers}."
    elif gap.low > 0:
        yield f"{student.name} is better than {comparison.teacher}: {numbers}."
    else:
        yield f"The difference of {student.name} and {comparison.teacher} is not significant on this holdout: {numbers}."


def _against_baselines(student: ModelEntry, interval: str) -> Iterator[str]:
    for name, gap in student.against_baselines.items():
        if gap and gap.low <= 0:
            yield (
                f"{student.name} does not significantly beat the baseline {name}: {gap.value:+.3f} exact match, "
                f"{interval} {gap.low:+.3f} to {gap.high:+.3f}."
            )


def _use(student: ModelEntry) -> Iterator[str]:
    name, cost, latency, overall = student.name, student.cost, student.latency, student.metrics.exact_match
    if cost and cost.fallback_share > 0.5:
        yield f"{name} leaves {100 * cost.fallback_share:.0f} % of the requests to the teacher."
    if latency and latency.n < FEWEST_TIMED:
        yield f"The 95th percentile of latency of {name} rests on {latency.n} prompts."
    slices = [
        (score.exact_match.value, dimension, value, score.n)
        for dimension, values in student.slices.items()
        for value, score in values.items()
        if score.n >= SMALLEST_SLICE and score.exact_match
    ]
    if slices and overall and min(slices)[0] < overall.value - WIDE_INTERVAL:
        exact, dimension, value, n = min(slices)
        yield f"{name} is weakest on {dimension} {value}: {exact:.3f} exact match over {n} prompts."


def _teacher(teacher: ModelEntry) -> Iterator[str]:
    for name, gap in teacher.against_baselines.items():
        if gap and gap.low <= 0:
            yield f"The baseline {name} may be as good as the teacher {teacher.name}: a model may not be needed."


def _gate(gate: GateDecision, interval: str) -> Iterator[str]:
    if gate.by == "prove":
        yield from _undecided(gate)
        return
    for student in gate.passing:
        for number in gate.numbers[student]:
            worst = number.high if number.at_most else number.low
            if worst is not None and (worst > number.wanted if number.at_most else worst < number.wanted):
                yield (
                    f"{student} passes the gate's {number.number} only by its point value {number.found:.3f}: "
                    f"its {interval} reaches {worst:.3f}, the contract wants {number.wanted}."
                )


def _undecided(gate: GateDecision) -> Iterator[str]:
    for student, numbers in gate.undecided.items():
        known = [number for number in numbers if number.more and number.number != "p95_ms"]
        most = max(known, key=lambda number: number.more or 0, default=None)
        more = f" About {most.more:,} further independent prompts would decide {most.number}." if most else ""
        names = ", ".join(number.number for number in numbers)
        yield f"The holdout does not decide whether {student} meets the gate" + (f": {names} is open.{more}" if names else ".")
    for student, why in gate.because.items():
        yield f"{student} is {gate.words.get(student, 'undecided')}: {why}"
    if (confirmation := gate.confirmation) and confirmation.looks > 1:
        yield f"The part kept for confirmation was opened for {confirmation.looks} students: its words are less sure than they say."
