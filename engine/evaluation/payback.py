"""When the run has paid for itself: its cost against what each request saves, with an interval over the prompts of the holdout.

The saving of a request is the price of the teacher's answer less that of the student's, and of the teacher's besides where the
student falls back (`engine.evaluation.cost`). The interval is a percentile bootstrap over whole clusters of prompts; the times that
are drawn with them are those of the prompts that were timed. The break-even is the cost over the saving, so its interval has the
ends of the saving's interval, turned round: it is infinite where the saving is not above 0 (as Fieller's: Biometrika 28, 1932).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.contract.budget import HOUR, Price
from engine.evaluation.decompose import Bootstrap
from engine.records.estimate import Estimate
from engine.records.worth import Payback
from engine.stats.bootstrap import Array, Measure, divide

THOUSAND = 1000


class Requests(NamedTuple):
    """What one model's answers to the n holdout prompts cost."""

    right: Array
    """(n,) 1 = right."""
    seconds: Array
    """(n,) machine seconds of a prompt that was sent alone; nan where it was not timed. 0 for a model behind an endpoint."""
    token_money: Array
    """(n,) price of the tokens; 0 for a student."""


def payback(
    name: str, student: Requests, teacher: Requests, fallback: Array, terms: "Terms", clusters: Sequence[object]
) -> Payback | None:
    """Return when the run has paid for itself with the student `name`; None if either model was not timed.

    `fallback` is (n,): 1 where the student leaves the request to the teacher.
    """
    if np.isnan(student.seconds).all() or np.isnan(teacher.seconds).all():
        return None
    saving = terms.draws.estimate(_saving(student, teacher, fallback, terms.price), clusters)
    if saving is None:
        return None
    accepted = np.where(fallback == 1, teacher.right, student.right) - teacher.right
    ones = np.ones(len(accepted))
    gained = Measure(np.column_stack([accepted, ones]), lambda sums: divide(sums[..., 0], sums[..., 1]), len(ones))
    ends = [_break_even(terms.cost, value) for value in (saving.value, saving.high, saving.low)]
    return Payback(
        student=name,
        saving_per_1000=_times(saving, THOUSAND),
        break_even=ends[0],
        break_even_low=ends[1],
        break_even_high=ends[2],
        months=round(ends[0] / terms.traffic, 3) if terms.traffic and ends[0] is not None else None,
        saving_per_month=_times(saving, terms.traffic) if terms.traffic else None,
        accepted=terms.draws.estimate(gained, clusters),
    )


class Terms(NamedTuple):
    """What turns answers into a return."""

    price: Price
    cost: float
    """Of the run."""
    traffic: int | None
    """Requests a month; None if not known."""
    draws: Bootstrap


def _saving(student: Requests, teacher: Requests, fallback: Array, price: Price) -> Measure:
    """Return the mean saving of a request as a function of sums over prompts."""
    rate = price.per_machine_hour / HOUR
    timed = [~np.isnan(each.seconds) for each in (student, teacher)]
    spent = [np.nan_to_num(each.seconds) * rate for each in (student, teacher)]
    tokens, ones = (teacher.token_money * (1 - fallback), student.token_money), np.ones(len(fallback))
    columns = np.column_stack([spent[0], timed[0], spent[1], timed[1], *tokens, fallback, ones])

    def saving(sums: Array) -> Array:
        own, taught = divide(sums[..., 0], sums[..., 1]), divide(sums[..., 2], sums[..., 3])
        rows = sums[..., 7]
        answered = 1 - divide(sums[..., 6], rows)
        return answered * taught + divide(sums[..., 4] - sums[..., 5], rows) - own

    return Measure(columns, saving, len(fallback))


def _break_even(cost: float, saving: float) -> float | None:
    return round(cost / saving, 1) if saving > 0 else None


def _times(each: Estimate, factor: float) -> Estimate:
    value, low, high = (round(number * factor, 9) for number in (each.value, each.low, each.high))
    return Estimate(value=value, low=low, high=high, n=each.n)
