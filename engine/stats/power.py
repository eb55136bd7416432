"""How many independent prompts a test needs, and which difference it can detect (Lachin, Controlled Clinical Trials 2, 1981).

A test at `level` finds a true distance `effect` from its threshold with probability `power` if

    effect * sqrt(n) = z(1 - level) * null_spread + z(power) * spread

where the spreads are the standard deviations that one independent prompt contributes, at the threshold and at the true value.
"""

import math
from typing import NamedTuple

import numpy as np

MOST = 100_000  # prompts beyond which nobody would collect them: the value lies as good as at its limit


class Risks(NamedTuple):
    """What a test may get wrong."""

    level: float  # probability of passing what is just not good enough
    power: float  # probability of deciding what is as good as it is


def needed(effect: float, null_spread: float, spread: float, risks: Risks) -> int | None:
    """Return the independent prompts that a distance `effect` needs; None if it is 0 or more than MOST would be needed."""
    distance = _quantile(1 - risks.level) * null_spread + _quantile(risks.power) * spread
    if not effect or distance**2 > MOST * effect**2:
        return None
    return max(1, math.ceil(round((distance / effect) ** 2, 6)))


def further(effect: float, spreads: tuple[float, float], independent: float, risks: Risks) -> int | None:
    """Return the prompts that are needed beyond the `independent` ones that there are, at least 1; None as for `needed`."""
    wanted = needed(effect, *spreads, risks)
    return None if wanted is None else max(1, math.ceil(wanted - independent))


def detectable(independent: float, null_spread: float, spread: float, risks: Risks) -> float:
    """Return the smallest distance that `independent` prompts show, if the spread does not depend on it."""
    return (_quantile(1 - risks.level) * null_spread + _quantile(risks.power) * spread) / math.sqrt(max(independent, 1e-9))


def detectable_share(independent: float, threshold: float, risks: Risks) -> float | None:
    """Return the smallest true share above `threshold` that is found to be above it; None if not even 1 is."""
    null = _quantile(1 - risks.level) * math.sqrt(threshold * (1 - threshold))
    shares = np.linspace(threshold, 1, 2001)[1:]
    found = (shares - threshold) * math.sqrt(independent) >= null + _quantile(risks.power) * np.sqrt(shares * (1 - shares))
    return float(shares[found.argmax()]) if found.any() else None


def share_spread(share: float) -> float:
    """Return the standard deviation of a row that is right with probability `share`."""
    return math.sqrt(max(0.0, share * (1 - share)))


def _quantile(probability: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(probability))
