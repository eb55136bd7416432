"""Several hypotheses at once: Holm's procedure for students, Benjamini and Hochberg's for slices.

Holm's is four lines: SciPy has none, and that of statsmodels takes seconds to import.
"""

from collections.abc import Mapping, Sequence


def holm(p_values: Mapping[str, float], level: float) -> list[str]:
    """Return the names that are rejected with a family-wise error of at most `level` (Holm, Scand. J. Statist. 6, 1979)."""
    steps = holm_steps(list(p_values.values()), level)
    return [name for name, (_, is_rejected) in zip(p_values, steps, strict=True) if is_rejected]


def holm_steps(p_values: Sequence[float], level: float) -> list[tuple[float, bool]]:
    """Return for each p-value the error of its own test, so that all together err at most at `level`, and whether it is rejected.

    An interval at one less that error agrees with the test. What is not rejected has the error of the first step, the smallest.
    """
    count = len(p_values)
    steps = [(level / max(1, count), False)] * count
    for rank, index in enumerate(sorted(range(count), key=lambda index: p_values[index])):
        if p_values[index] > level / (count - rank):
            break
        steps[index] = (level / (count - rank), True)
    return steps


def benjamini_hochberg(p_values: Mapping[str, float], rate: float) -> list[str]:
    """Return the names that are rejected with a false discovery rate of at most `rate` (1995)."""
    from scipy.stats import false_discovery_control

    if not p_values:
        return []
    adjusted = false_discovery_control(list(p_values.values()), method="bh")
    return [name for name, p_value in zip(p_values, adjusted, strict=True) if p_value <= rate]
