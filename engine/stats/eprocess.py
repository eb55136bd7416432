"""Tests that may be looked at after every observation: e-processes and confidence sequences (Howard, Ramdas, McAuliffe and Sekhon,
Annals of Statistics 49, 2021; Ramdas, Gruenwald, Vovk and Shafer, Statistical Science 38, 2023).

An e-process is a number that starts at 1 and whose expectation never grows while the hypothesis is true. So the probability that
it ever reaches 1 / delta is at most delta (Ville, 1939), however often and whenever one looks. Observations need not be
independent: it suffices that each one's probability, given the past, is on the hypothesis' side. All functions return logarithms,
and depend on counts alone, so that a state is a few numbers.
"""

import numpy as np

from engine.stats.intervals import Array

PRIOR = (0.5, 0.5)
"""Beta prior of the rate (Jeffreys): the mixture then adapts to any rate."""
STEPS = np.geomspace(0.02, 0.9, 12)
"""Bets on the mean of differences, as shares of the largest one that cannot lose everything."""
BISECTIONS = 50


def above(hits: Array | float, total: Array | float, rate: float) -> Array:
    """Return the log e-value against "the rate is at most `rate`" of `hits` of `total`.

    The likelihood of the hits, mixed over the part above `rate` of a Beta prior, over that at `rate` (beta-binomial mixture: Howard
    et al., section 3.2; Robbins, Annals of Mathematical Statistics 41, 1970). Shapes are broadcast.
    """
    hits, total = np.asarray(hits, dtype=np.float64), np.asarray(total, dtype=np.float64)
    return _mixture(hits, total - hits, rate)


def below(hits: Array | float, total: Array | float, rate: float) -> Array:
    """Return the log e-value against "the rate is at least `rate`"; see `above`."""
    hits, total = np.asarray(hits, dtype=np.float64), np.asarray(total, dtype=np.float64)
    return _mixture(total - hits, hits, 1 - rate)


def confidence_sequence(hits: float, total: float, delta: float) -> tuple[float, float]:
    """Return an interval of the rate that holds the true one at all times together with probability 1 - `delta`.

    It holds the rates against which the two-sided beta-binomial mixture is below 1 / `delta`.
    """
    if not total:
        return 0.0, 1.0
    rate = hits / total
    ends = []
    for end in (0.0, 1.0):
        inside, outside = rate, end
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            is_inside = bool(_two_sided(hits, total - hits, middle) < -np.log(delta))
            inside, outside = (middle, outside) if is_inside else (inside, middle)
        ends.append(outside if inside != end else end)
    return ends[0], ends[1]


def difference_above(wins: Array | float, losses: Array | float, ties: Array | float, margin: float) -> Array:
    """Return the log e-value against "wins less losses, as a share of all pairs, is at most -`margin`".

    Wealth of bets on the mean of differences 1, -1, 0, which are bounded, averaged over fixed bets (Waudby-Smith and Ramdas, JRSS B
    86, 2024, section 4.4). Shapes are broadcast.
    """
    counts = [np.asarray(count, dtype=np.float64)[..., None] for count in (wins, losses, ties)]
    bets = STEPS / (1 - margin)  # the worst difference, -1, is 1 - margin below the hypothesis' edge
    logs = sum(count * np.log1p(bets * (value + margin)) for count, value in zip(counts, (1, -1, 0), strict=True))
    return _log_mean(np.asarray(logs))


def difference_below(wins: Array | float, losses: Array | float, ties: Array | float, margin: float) -> Array:
    """Return the log e-value against "wins less losses, as a share of all pairs, is at least -`margin`"."""
    counts = [np.asarray(count, dtype=np.float64)[..., None] for count in (wins, losses, ties)]
    bets = STEPS / (1 + margin)  # the best difference, 1, is 1 + margin above it
    logs = sum(count * np.log1p(-bets * (value + margin)) for count, value in zip(counts, (1, -1, 0), strict=True))
    return _log_mean(np.asarray(logs))


def _mixture(hits: Array, misses: Array, rate: float) -> Array:
    from scipy.special import betaincc, betaln

    first, second = PRIOR
    with np.errstate(divide="ignore"):  # the logarithm of 0: no mass above the rate, so no evidence
        posterior = betaln(first + hits, second + misses) + np.log(betaincc(first + hits, second + misses, rate))
    prior = betaln(first, second) + np.log(betaincc(first, second, rate))
    likelihood = hits * np.log(rate) + misses * np.log1p(-rate)
    return np.asarray(posterior - prior - likelihood)


def _two_sided(hits: float, misses: float, rate: float) -> float:
    from scipy.special import betaln, xlog1py, xlogy

    first, second = PRIOR
    mixed = betaln(first + hits, second + misses) - betaln(first, second)
    return float(mixed - xlogy(hits, rate) - xlog1py(misses, -rate))


def _log_mean(logs: Array) -> Array:
    return np.logaddexp.reduce(logs, axis=-1) - np.log(logs.shape[-1])
