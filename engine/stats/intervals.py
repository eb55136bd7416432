"""Numbers about a judge, each with its interval. An estimate is {value, low, high, n}; None where nothing can be said."""

from typing import Any

import numpy as np

Array = np.ndarray
Estimate = dict[str, Any] | None
LEVEL = 0.95
BINS = 10
DRAWS = 1000  # of the bootstrap
FEWEST = 5  # values from which on a mean has an interval


def share(hits: int, total: int, *, level: float = LEVEL) -> Estimate:
    """Share of hits, with the score interval of Wilson (1927)."""
    if not total:
        return None
    z = _normal(level)
    p, weight = hits / total, z * z / total
    middle = (p + weight / 2) / (1 + weight)
    half = z * np.sqrt(p * (1 - p) / total + weight / (4 * total)) / (1 + weight)
    return _estimate(p, max(0.0, middle - half), min(1.0, middle + half), total)


def kappa(counts: Array, *, level: float = LEVEL) -> Estimate:
    """Cohen's kappa (1960) of a square table of counts; the large-sample interval of Fleiss, Cohen and Everitt (1969)."""
    total = counts.sum()
    if not total:
        return None
    p = counts / total
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    agreed, chance = np.trace(p), float(rows @ columns)
    if chance == 1:  # both say one and the same of all
        return _estimate(0.0, 0.0, 0.0, int(total))
    found = (agreed - chance) / (1 - chance)
    apart = rows[None, :] + columns[:, None]  # what row j and column i hold together
    diagonal = np.sum(np.diag(p) * (1 - np.diag(apart) * (1 - found)) ** 2)
    beside = (1 - found) ** 2 * np.sum((p - np.diag(np.diag(p))) * apart**2)
    variance = (diagonal + beside - (found - chance * (1 - found)) ** 2) / (total * (1 - chance) ** 2)
    half = _normal(level) * np.sqrt(max(0.0, variance))
    return _estimate(found, max(-1.0, found - half), min(1.0, found + half), int(total))


def auc(scores: Array, right: Array, *, level: float = LEVEL) -> Estimate:
    """Area under the ROC curve, ties half, with the interval of DeLong, DeLong and Clarke-Pearson (1988)."""
    above, below = np.sort(scores[right]), np.sort(scores[~right])
    if not len(above) or not len(below):
        return None

    def beaten(values: Array, others: Array) -> Array:
        return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))

    places, rivals = beaten(above, below), 1 - beaten(below, above)
    spread = sum(float(np.var(one, ddof=1)) / len(one) if len(one) > 1 else 0.25 for one in (places, rivals))
    value, half = float(places.mean()), _normal(level) * np.sqrt(spread)
    return _estimate(value, max(0.0, value - half), min(1.0, value + half), len(scores))


def mean(values: Array, *, level: float = LEVEL) -> Estimate:
    """Mean, with Student's interval; None below FEWEST values."""
    if len(values) < FEWEST:
        return None
    value, error = float(np.mean(values)), float(np.std(values, ddof=1)) / np.sqrt(len(values))
    half = _student(level, len(values) - 1) * error
    return _estimate(value, value - half, value + half, len(values))


def gap(ours: Array, others: Array, *, level: float = LEVEL) -> Estimate:
    """Mean of `ours` less that of `others`, with the interval of Welch (1947); None below FEWEST values of either."""
    if min(len(ours), len(others)) < FEWEST:
        return None
    return of_moments(moments(ours), moments(others), level=level)


def moments(values: Array) -> tuple[int, float, float]:
    """How many, their mean and their variance."""
    return len(values), float(np.mean(values)), float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def of_moments(ours: tuple[int, float, float], others: tuple[int, float, float], *, level: float = LEVEL) -> Estimate:
    """`gap`, from the moments of both."""
    errors = [variance / count for count, _, variance in (ours, others)]
    both = sum(errors)
    freedom = (
        both**2 / sum(error**2 / max(1, count - 1) for error, (count, *_) in zip(errors, (ours, others), strict=True))
        if both
        else 1
    )
    value, half = ours[1] - others[1], _student(level, freedom) * np.sqrt(both)
    return _estimate(value, value - half, value + half, ours[0] + others[0])


def around(value: float, variance: float, n: int, *, low: float, high: float) -> Estimate:
    """A number with the normal interval of its variance, cut at the ends of its range."""
    half = _normal(LEVEL) * np.sqrt(max(0.0, variance))
    return _estimate(value, max(low, value - half), min(high, value + half), n)


def ece(confidence: Array, right: Array, *, level: float = LEVEL) -> Estimate:
    """Expected calibration error in BINS equal bins (Guo et al., 2017, section 2), with a percentile bootstrap (Efron, 1979).

    Resamples have larger errors than the items, as each bin's mean strays: their middle is moved back to the number itself.
    """
    if not len(confidence):
        return None
    gaps = np.zeros((len(confidence), BINS))
    gaps[np.arange(len(confidence)), _bin(confidence)] = right - confidence
    times = np.random.default_rng(0).multinomial(len(gaps), np.full(len(gaps), 1 / len(gaps)), size=DRAWS)
    spread = np.abs(times @ gaps).sum(axis=1) / len(gaps)
    value = np.abs(gaps.sum(axis=0)).sum() / len(gaps)
    low, high = value + np.quantile(spread, [(1 - level) / 2, (1 + level) / 2]) - np.median(spread)
    return _estimate(value, max(0.0, low), min(1.0, high), len(gaps))


def bins(confidence: Array, right: Array) -> list[dict[str, Any]]:
    """Return each bin's bounds, items, mean confidence and share of right ones (null in an empty bin), lowest first."""
    where, found = _bin(confidence), []
    for index in range(BINS):
        inside = where == index
        n = int(inside.sum())
        means = [round(float(values[inside].mean()), 6) if n else None for values in (confidence, right)]
        bounds = {"low": index / BINS, "high": (index + 1) / BINS}
        found.append({**bounds, "n": n, "confidence": means[0], "accuracy": means[1]})
    return found


def _bin(confidence: Array) -> Array:
    """Index of the bin (low, high] of each confidence; 0 belongs to the first."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def _normal(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def _student(level: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def _estimate(value: float, low: float, high: float, n: int) -> Estimate:
    return {"value": round(float(value), 6), "low": round(float(low), 6), "high": round(float(high), 6), "n": n}
