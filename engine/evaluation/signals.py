"""What speaks against more of the same: a number each, with its interval, and what it is compared with.

A signal has fired where the interval shows it, not where the point value does. A number that is missing names the command that
gives it. What is done about all of them together: `engine.evaluation.advice`.
"""

from collections.abc import Iterator, Sequence
from math import sqrt

from engine.records.estimate import Estimate
from engine.records.report import ModelEntry
from engine.records.worth import Signal, Worth
from engine.stats.intervals import estimate

EXHAUSTED = 0.5
"""Share of copies above which a new prompt is more likely a copy than not."""
CURVE = "rayleigh ablate RUN --curve"
REVIEW = "rayleigh review export RUN"
LARGER = "rayleigh run CONTRACT RUN, with a larger student in the contract"


def signals(worth: Worth, models: Sequence[ModelEntry]) -> list[Signal]:
    """Return every signal; [] without an evaluated student."""
    student = best_student(models)
    return list(_all(worth, student)) if student else []


def best_student(models: Sequence[ModelEntry]) -> ModelEntry | None:
    """Return the student or export with the highest exact match, the first of equals; None without any."""
    students = [model for model in models if model.role == "student" and not model.error and model.metrics.exact_match]
    return max(students, key=lambda model: model.metrics.exact_match.value if model.metrics.exact_match else 0.0, default=None)


def _all(worth: Worth, student: ModelEntry) -> Iterator[Signal]:
    yield _ceiling(worth, student)
    yield _marginal_gain(worth)
    yield _capacity(worth)
    yield _bias(worth, student)
    yield _coverage(worth)
    yield _label_noise(worth, student)
    yield _payback(worth)


def _ceiling(worth: Worth, student: ModelEntry) -> Signal:
    gap = student.against_teacher and student.against_teacher.difference
    if not gap or not student.against_teacher:
        return Signal(name="ceiling", fired=None, text="There is no teacher to compare with.", run="rayleigh run CONTRACT RUN")
    gap = no_narrower(gap)
    teacher, is_reached = student.against_teacher.teacher, gap.low > -worth.worth
    verb = "has reached" if is_reached else "is below" if gap.high < 0 else "may be below"
    text = f"{student.name} {verb} its teacher {teacher}: {_signed(gap)} exact match."
    return Signal(name="ceiling", fired=is_reached, number=gap, limit=-worth.worth, text=text)


def _marginal_gain(worth: Worth) -> Signal:
    curve = worth.curve
    if curve is None or curve.next_gain is None:
        why = f": {curve.why}" if curve and curve.why else ""
        run = CURVE if curve is None else f"{CURVE} --seeds {max(3, curve.seeds + 2)}"
        return Signal(name="marginal_gain", fired=None, text=f"What twice the data would bring is not known{why}.", run=run)
    gain, fired = curve.next_gain, curve.next_gain.high < worth.worth
    text = f"Twice the examples ({curve.next_examples}) would bring {curve.student} {_signed(gain)} exact match"
    end = "which is below" if fired else "at least" if gain.low >= worth.worth else "of which it is open whether it reaches"
    text += f", {end} the {worth.worth:g} that the contract finds worth it."
    more = f"{CURVE} --seeds {2 * curve.seeds}" if gain.low < worth.worth <= gain.high else ""
    return Signal(name="marginal_gain", fired=fired, number=gain, limit=worth.worth, text=text, run=more)


def _capacity(worth: Worth) -> Signal:
    gain = worth.capacity
    if gain is None:
        return Signal(
            name="capacity", fired=None, text="There is one size of student: what a larger one brings is not known.", run=LARGER
        )
    gain = no_narrower(gain)
    fired = gain.high < worth.worth
    larger, smaller = worth.sizes
    text = f"{larger} has {_signed(gain)} exact match against the next smaller student {smaller}."
    return Signal(name="capacity", fired=fired, number=gain, limit=worth.worth, text=text)


def _bias(worth: Worth, student: ModelEntry) -> Signal:
    found = next((each for each in worth.decompositions if each.student == student.name), None)
    kappa = found.error_consistency if found else None
    if found is None or kappa is None:
        return Signal(
            name="bias", fired=None, text="Student and teacher cannot be compared: one of them is never wrong, or is missing."
        )
    wrong = found.error_learnt.count + found.both_wrong.count + found.better.count
    text = (
        f"{student.name} errs with its teacher {'more often than' if kappa.low > 0 else 'about as often as'} chance: kappa "
        f"{_plain(kappa)}; it learnt {found.error_learnt.count} of the teacher's {wrong} errors and mends {found.better.count}."
    )
    growth = worth.curve.bias_growth if worth.curve else None
    if growth:
        verb = "rises" if growth.low > 0 else "falls" if growth.high < 0 else "is not shown to rise"
        text += f" The share of them that students learn {verb} with the data: {_signed(growth)}."
    return Signal(name="bias", fired=kappa.low > 0, number=kappa, limit=0.0, text=text)


def _coverage(worth: Worth) -> Signal:
    copies = worth.copies
    if copies is None:
        return Signal(
            name="coverage", fired=None, text="How many new prompts are copies is not known.", run="rayleigh run CONTRACT RUN"
        )
    fired = copies.share.low > EXHAUSTED
    what = "written prompts" if copies.source == "synthesis" else "prompts of the sources"
    text = f"{copies.copies} of {copies.prompts} {what} are copies of others ({_plain(copies.share)})"
    text += ": new ones mostly repeat what is there." if fired else "."
    return Signal(name="coverage", fired=fired, number=copies.share, limit=EXHAUSTED, text=text)


def _label_noise(worth: Worth, student: ModelEntry) -> Signal:
    noise, exact = worth.label_noise, student.metrics.exact_match
    if noise is None or exact is None:
        text = "How often the learnt answers are wrong is not known: label some of them."
        return Signal(name="label_noise", fired=None, text=text, run=REVIEW)
    error = Estimate(value=1 - exact.value, low=1 - exact.high, high=1 - exact.low, n=exact.n)
    excess = difference(error, noise.share)
    fired = excess.high < worth.worth
    by = "persons" if noise.source == "persons" else "the calibrated confidence"
    text = (
        f"{_plain(noise.share)} of the learnt answers are wrong, by {by}; {student.name} is wrong on {_signed(excess)} more of the "
        f"holdout{': it is as good as its labels' if fired else ''}."
    )
    return Signal(name="label_noise", fired=fired, number=excess, limit=worth.worth, text=text)


def _payback(worth: Worth) -> Signal:
    best = max(worth.paybacks, key=lambda each: each.saving_per_1000.value, default=None)
    if best is None:
        text = "What a request saves is not known: no student was timed together with a teacher."
        return Signal(name="payback", fired=None, text=text, run="rayleigh run CONTRACT RUN")
    saving, fired = best.saving_per_1000, best.saving_per_1000.high <= 0
    after = "never pays back" if best.break_even is None else f"pays back after {best.break_even:,.0f} requests"
    high = "never" if best.break_even_high is None else f"{best.break_even_high:,.0f}"
    low = "never" if best.break_even_low is None else f"{best.break_even_low:,.0f}"
    text = (
        f"The run {after} ({low} to {high}) with {best.student}: 1,000 requests save "
        f"{saving.value:.4g} ({saving.low:.4g} to {saving.high:.4g}) {worth.cost.currency}".rstrip()
        + "."
    )
    return Signal(name="payback", fired=fired, number=saving, limit=0.0, text=text)


def no_narrower(each: Estimate) -> Estimate:
    """Return a difference whose interval is not narrower than what its prompts can tell.

    Where two models never differ, resamples do not either, yet n prompts without a difference allow a rate of up to 3 / n (rule of
    three: Hanley and Lippman-Hand, JAMA 249, 1983).
    """
    half = 3 / each.n if each.n else 0.0  # 0: an older file does not record it
    return each.model_copy(update={"low": min(each.low, each.value - half), "high": max(each.high, each.value + half)})


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Return `one` less `other`, which were measured on different items, with an interval from both of theirs.

    Method of variance estimates recovery: Zou and Donner, Statistics in Medicine 27, 2008, section 2.
    """
    value = one.value - other.value
    below = sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    above = sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return estimate(value, value - below, value + above, one.n + other.n)


def _plain(each: Estimate) -> str:
    return f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})"


def _signed(each: Estimate) -> str:
    return f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
