"""Certified thresholds: the share of wrong answers among those given is at most alpha, with probability 1 - delta.

Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test", 2021, sections 2 and 3): every threshold is a
hypothesis "its risk is above alpha" with a p-value; thresholds are tested in an order that is fixed before, from strict to loose,
with the family-wise error delta. Testing begins at several `starts` that share delta, so that a strict threshold that too few rows
reach does not end everything; a start that is reached with all tests since the one before passed inherits its share (the fallback
procedure: Wiens and Dmitrienko, J. Biopharm. Stat. 15, 2005). Most of delta is where the confidences promise most (`order_of`).
Among what is certified the loosest threshold is returned. The risk is not monotone in the threshold, so conformal risk control does
not apply.

p-values. For independent rows the exact binomial one. Rows of a cluster are not independent, and then it is not valid:

    rows        P(Bin(answered, alpha) <= wrong). Exact for independent rows, wrong for others.
    effective   the same with answered and wrong over the design effect (`clusters.design_effect`), as the gate's tests do. Not
                exact: the design effect is estimated, with an assumed correlation where errors are few.
    thinned     exact, on one row of each cluster, chosen by the rows' ids. It promises for a random prompt of a random cluster.

Chosen by simulation (tests/unit/test_stats_selective.py has a part), delta 0.1, 80 or 146 clusters of 1 to 3 rows, alpha 0.1 and
0.2: where all rows of a cluster are alike, `rows` broke its promise in 13 to 17 % of the draws, `effective` in 4 to 5 %, `thinned`
in 3 to 5 %; half of them alike: 3 to 10 %, 2 to 8 %, 1 to 6 %. `effective` answers more: 0.51 of the rows against 0.36 (146
clusters, alpha 0.1, half alike). A betting e-value over the clusters' sums (Waudby-Smith and Ramdas, JRSS B 86, 2024), valid
without any assumption, answered 0.00 to 0.07 there and was dropped; a Student test of the clusters' sums broke in 10 to 11 %. So
`effective` is used where there are clusters, `rows` where there are none, and `thinned` if asked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.records.certificate import Certificate, Method
from engine.rows import content_id
from engine.stats.clusters import Clusters, subset_design_effects
from engine.stats.intervals import Array, estimate, wilson

GRID = 64  # thresholds that are tested
GUESS = 0.8
"""Share of delta at the start that the confidences themselves suggest; the other starts share the rest."""
DOUBT = 1.5  # times the risk that the confidences say, which is what they are trusted with
SPARE = 1.5  # times the rows that would suffice without an error, that a start has at least
FEW = 1e-9


class Answers(NamedTuple):
    """A model's answers to the n prompts of a holdout."""

    confidence: Array  # (n,) nan where the model gives none: never answered
    right: Array  # (n,) 1 = right
    ids: Sequence[str]
    labels: Sequence[object] | None = None  # cluster of each row; None = all are independent

    def take(self, mask: Array) -> "Answers":
        """Return the rows of the mask (n,)."""
        kept = [int(index) for index in np.flatnonzero(mask)]
        labels = None if self.labels is None else [self.labels[index] for index in kept]
        return Answers(self.confidence[kept], self.right[kept], [self.ids[index] for index in kept], labels)


class Promise(NamedTuple):
    """What is to be certified."""

    alpha: float = 0.1  # share of wrong answers, at most
    delta: float = 0.1  # probability that it is more, at most
    starts: int = 3
    method: Method | None = None  # None = `effective` if there are clusters of several rows, else `rows`

    @property
    def fewest(self) -> int:
        """Rows that certify at the best start if none of them is wrong."""
        return int(np.ceil(np.log(self.delta * (GUESS if self.starts > 1 else 1)) / np.log1p(-self.alpha)))


class Bound(NamedTuple):
    """To what a certificate is bound."""

    model: str = ""
    deployment: str = ""
    holdout: str = ""


class Order(NamedTuple):
    """Thresholds from strict to loose, (k,), the positions among them at which testing starts, and their shares of delta."""

    thresholds: Array
    starts: tuple[int, ...]
    shares: tuple[float, ...]


def order_of(confidence: Array, rows: int, promise: Promise) -> Order:
    """Return thresholds at evenly spaced coverages of `confidence`, (m,), for testing on `rows` rows.

    `confidence` are of prompts other than those that are tested, or the order would depend on them; they need no labels. Most of
    delta is at the threshold that would be proven most clearly if the risk were DOUBT times what the confidences say; the other
    starts are evenly spaced by coverage, for confidences that say nothing. Where a start lies decides how much is answered, not
    whether the promise holds.
    """
    known = confidence[np.isfinite(confidence)]
    if not len(known):
        return Order(np.zeros(0), (), ())
    thresholds = np.unique(np.quantile(known, 1 - np.arange(1, GRID + 1) / GRID, method="lower"))[::-1]
    above = known[None, :] >= thresholds[:, None]  # counted, as several coverages have one threshold where confidences tie
    expected = rows * above.sum(axis=1) / len(confidence)
    risk = np.clip(DOUBT * (above * (1 - known)).sum(axis=1) / above.sum(axis=1), 0, 1)
    enough = expected >= min(SPARE * promise.fewest, expected[-1])
    starts = [int(np.argmin(np.where(enough, binomial_p(expected * risk, expected, promise.alpha), 2.0)))]
    first = int(np.argmax(enough))
    for share in np.arange(1, promise.starts) / promise.starts:
        starts.append(max(first, min(int(np.searchsorted(expected, share * rows)), len(thresholds) - 1)))
    shares = [1.0] if promise.starts == 1 else [GUESS, *[(1 - GUESS) / (promise.starts - 1)] * (promise.starts - 1)]
    return Order(thresholds, tuple(starts), tuple(shares))


def certify(answers: Answers, promise: Promise, order: Order, bound: Bound = Bound()) -> Certificate:  # noqa: B008
    """Return the loosest threshold of `order` that keeps `promise`, or why there is none.

    Raises:
        ValueError: alpha or delta is not between 0 and 1, or starts is below 1.
    """
    if not (0 < promise.alpha < 1 and 0 < promise.delta < 1 and promise.starts >= 1):
        raise ValueError(f"found {promise}, expected alpha and delta between 0 and 1, and at least one start")
    clusters = Clusters(range(len(answers.right)) if answers.labels is None else answers.labels)
    method = promise.method or ("effective" if clusters.count < clusters.rows else "rows")
    base = Certificate(
        model=bound.model, deployment=bound.deployment, holdout=bound.holdout, alpha=promise.alpha, delta=promise.delta,
        starts=promise.starts, method=method, guarantee=guarantee(promise, method), n=clusters.rows, clusters=clusters.count,
    )  # fmt: skip
    used = thinned(answers) if method == "thinned" else answers
    if reason := _hopeless(used, promise, order):
        return base.model_copy(update={"reason": reason})
    table = _table(used, order.thresholds, promise.alpha, by_cluster=method == "effective")
    chosen = fixed_sequence(table.p_values, order.starts, order.shares, promise.delta)
    if chosen is None:
        best = int(np.argmin(table.p_values))
        reason = (
            f"no threshold was proven to keep the risk at {promise.alpha:g}: the best of {len(table.p_values)} has "
            f"{int(table.wrong[best])} wrong of {int(table.answered[best])} (p = {table.p_values[best]:.3g}); more labelled rows, "
            "a larger alpha or a better student may help"
        )
        return base.model_copy(update={"reason": reason})
    return base.model_copy(update=_numbers(table, order, chosen, promise.delta, answered_of=len(used.right)))


def fixed_sequence(p_values: Array, starts: Sequence[int], shares: Sequence[float], delta: float) -> int | None:
    """Return the last hypothesis that is rejected with a family-wise error of at most `delta`; None if none is.

    Hypotheses are in order. Each of `starts` has its share of delta; what a rejected one had goes on to the next.
    """
    own = np.zeros(len(p_values))
    np.add.at(own, list(starts), delta * np.asarray(shares, dtype=np.float64))
    level, last = 0.0, None
    for index, p_value in enumerate(p_values):
        level += own[index]
        if level and p_value <= level:
            last = index
        else:
            level = 0.0
    return last


def binomial_p(wrong: Array, answered: Array, alpha: float) -> Array:
    """Return P(Bin(answered, alpha) <= wrong), 1 where nothing is answered; for real counts by the incomplete beta function."""
    from scipy.special import betainc

    rest = np.maximum(answered - wrong, FEW)
    return np.where(answered > 0, np.where(wrong >= answered, 1.0, betainc(rest, wrong + 1, 1 - alpha)), 1.0)


def upper_bound(wrong: float, answered: float, delta: float) -> float:
    """Return the upper bound of the risk at level 1 - delta (Clopper and Pearson, Biometrika 26, 1934), for real counts."""
    from scipy.special import betaincinv

    return 1.0 if wrong >= answered else float(betaincinv(wrong + 1, answered - wrong, 1 - delta))


def thinned(answers: Answers) -> Answers:
    """Return one row of each cluster: that whose id has the smallest hash, which says nothing about its answer."""
    first: dict[object, int] = {}
    ranks = [content_id("thin", name) for name in answers.ids]
    labels = [index if label in ("", None) else ("cluster", label) for index, label in enumerate(answers.labels or ranks)]
    for index in sorted(range(len(ranks)), key=ranks.__getitem__):
        first.setdefault(labels[index], index)
    mask = np.zeros(len(ranks), dtype=bool)
    mask[list(first.values())] = True
    return answers.take(mask)


def guarantee(promise: Promise, method: Method) -> str:
    """Return what is promised under `method`, in a sentence."""
    what = f"With probability {1 - promise.delta:g}, at most {promise.alpha:g} of the answers at or above the threshold are wrong"
    return {
        "rows": f"{what}, if prompts are independent; exact for any number of them.",
        "effective": f"{what}; clusters enter by an estimated design effect, so this is approximate, not exact.",
        "thinned": f"{what}, for a random prompt of a random cluster; exact, on one row of each cluster.",
    }[method]


class _Table(NamedTuple):
    answered: Array
    wrong: Array
    design: Array
    p_values: Array


def _hopeless(answers: Answers, promise: Promise, order: Order) -> str:
    known = int(np.isfinite(answers.confidence).sum())
    if not known:
        return "the model gives no confidence"
    if known < promise.fewest:
        return (
            f"{known} independent rows have a confidence, and even without an error {promise.fewest} are needed for alpha "
            f"{promise.alpha:g} and delta {promise.delta:g}; label more"
        )
    return "" if len(order.thresholds) else "no confidence of other rows sets the order of thresholds"


def _table(answers: Answers, thresholds: Array, alpha: float, *, by_cluster: bool) -> _Table:
    wrong = 1 - answers.right
    accepted = np.nan_to_num(answers.confidence, nan=-np.inf)[None, :] >= thresholds[:, None]
    num_answered, num_wrong = accepted.sum(axis=1).astype(float), (accepted * wrong).sum(axis=1)
    design = np.ones(len(thresholds))
    if by_cluster and answers.labels is not None:
        design = subset_design_effects(wrong, accepted, Clusters(answers.labels))
    return _Table(num_answered, num_wrong, design, binomial_p(num_wrong / design, num_answered / design, alpha))


def _numbers(table: _Table, order: Order, chosen: int, delta: float, *, answered_of: int) -> dict[str, object]:
    answered, wrong, design = (float(column[chosen]) for column in table[:3])
    worth = answered / design
    return {
        "threshold": float(order.thresholds[chosen]),
        "answered": int(answered),
        "wrong": int(wrong),
        "effective": round(worth, 3),
        "risk": estimate(wrong / answered, *wilson(wrong / design, worth), int(answered)),
        "risk_bound": round(upper_bound(wrong / design, worth, delta), 6),
        "p_value": float(table.p_values[chosen]),
        "coverage": estimate(answered / answered_of, *wilson(worth, answered_of / design), answered_of),
    }
