"""What to do next, from the signals: more data, a larger student, a better teacher, labels of persons, or to stop.

    no student saves anything                                     stop
    below the teacher, as good as its labels                      labels
    below the teacher, twice the data brings `worth`, is new      data
    below the teacher, data does not, a larger student may        larger student
    below the teacher, neither does                               stop
    as good as the teacher, which errs, and wrong answers are learnt    labels
    as good as the teacher, which errs                            teacher
    as good as the teacher, which hardly errs                     stop

A number that the next question needs and that is missing gives `unknown`, with the command to run.
"""

from collections.abc import Mapping, Sequence

from engine.evaluation.signals import best_student, signals
from engine.records.report import ModelEntry
from engine.records.worth import Advice, Signal, Word, Worth

LISTED = 5  # buckets and slices that the findings name


def concluded(worth: Worth, models: Sequence[ModelEntry], *, run: str) -> Worth:
    """Return `worth` with its signals, and what to do next. `run` is the run folder, for the commands."""
    found = [_of_run(signal, run) for signal in signals(worth, models)]
    return worth.model_copy(update={"signals": tuple(found), "advice": advise(worth, models, found, run=run)})


def advise(worth: Worth, models: Sequence[ModelEntry], found: Sequence[Signal], *, run: str) -> Advice:
    """Return what to do next, given the signals of `worth`."""
    student = best_student(models)
    if student is None:
        return Advice(why=("No student has been evaluated.",), run=(f"rayleigh run CONTRACT {run}",))
    named = {signal.name: signal for signal in found}
    word, reasons = _word(named, worth, models)
    missing = [named[name] for name in reasons if named[name].fired is None and named[name].run]
    open_ones = [named[name] for name in reasons if word == "unknown" and named[name].run]
    runs = dict.fromkeys(signal.run for signal in (*missing, *open_ones))
    return Advice(word=word, student=student.name, why=tuple(named[name].text for name in reasons), run=tuple(runs))


def _word(named: Mapping[str, Signal], worth: Worth, models: Sequence[ModelEntry]) -> tuple[Word, list[str]]:
    """Return what to do, and the names of the signals that say so."""
    if named["payback"].fired:
        return "stop", ["payback"]
    if named["ceiling"].fired is None:
        return "unknown", ["ceiling"]
    return _at_the_ceiling(named, worth, models) if named["ceiling"].fired else _below_it(named)


def _below_it(named: Mapping[str, Signal]) -> tuple[Word, list[str]]:
    gain, capacity, coverage = named["marginal_gain"], named["capacity"], named["coverage"]
    if named["label_noise"].fired:
        return "labels", ["ceiling", "label_noise"]
    if gain.number is None:
        return "unknown", ["ceiling", "marginal_gain"]
    assert gain.limit is not None, "a gain is compared with `worth`"
    if not gain.fired and not coverage.fired:
        return ("data" if gain.number.low >= gain.limit else "unknown"), ["ceiling", "marginal_gain", "coverage"]
    reasons = ["ceiling", "marginal_gain", *(["coverage"] if coverage.fired else []), "capacity"]
    if capacity.fired is None:
        return "unknown", reasons
    return ("stop" if capacity.fired else "larger_student"), reasons


def _at_the_ceiling(named: Mapping[str, Signal], worth: Worth, models: Sequence[ModelEntry]) -> tuple[Word, list[str]]:
    teacher = max(
        (model.metrics.exact_match for model in models if model.role == "teacher" and model.metrics.exact_match),
        key=lambda exact: exact.value,
        default=None,
    )
    if teacher and 1 - teacher.low < worth.worth:
        return "stop", ["ceiling"]
    noise = worth.label_noise
    if noise and noise.share.low >= worth.worth:
        return "labels", ["ceiling", "bias", "label_noise"]
    return "teacher", ["ceiling", "bias", "label_noise"]


def findings(worth: Worth) -> list[str]:
    """Return sentences: signals that have fired, buckets that hurt or add nothing, and where the teacher errs most."""
    sentences = [signal.text for signal in worth.signals if signal.fired]
    for bucket in worth.attribution.buckets if worth.attribution else ():
        effect = bucket.effect
        if effect and bucket.verdict in ("hurts", "adds_nothing"):
            verb = "hurts" if bucket.verdict == "hurts" else f"adds less than {worth.worth:g}"
            numbers = f"{effect.value:+.3f} exact match ({effect.low:+.3f} to {effect.high:+.3f})"
            sentences.append(f"The bucket {bucket.kind} {bucket.value} {verb}: {numbers}.")
    for each in worth.concentrations[:LISTED]:
        excess = f"{each.excess.value:+.3f} ({each.excess.low:+.3f} to {each.excess.high:+.3f})"
        where = f"{each.dimension} {each.value}"
        sentences.append(f"{each.errors} of the {each.of} errors of {each.model} are of {where}: {excess} beyond the others.")
    return sentences


def _of_run(signal: Signal, run: str) -> Signal:
    return signal.model_copy(update={"run": signal.run.replace("RUN", run)}) if signal.run else signal
