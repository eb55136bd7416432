"""Several hypotheses at once: Holm's procedure for students, Benjamini and Hochberg's for slices.

Holm's is four lines: SciPy has none, and that of statsmodels takes seconds to import.
"""

from collections.abc import Mapping


def holm(p_values: Mapping[str, float], level: float) -> list[str]:
    """Return the names that are rejected with a family-wise error of at most `level` (Holm, Scand. J. Statist. 6, 1979)."""
    rejected: list[str] = []
    for name in sorted(p_values, key=lambda name: p_values[name]):
        if p_values[name] > level / (len(p_values) - len(rejected)):
            break
        rejected.append(name)
    return rejected


def benjamini_hochberg(p_values: Mapping[str, float], rate: float) -> list[str]:
    """Return the names that are rejected with a false discovery rate of at most `rate` (1995)."""
    from scipy.stats import false_discovery_control

    if not p_values:
        return []
    adjusted = false_discovery_control(list(p_values.values()), method="bh")
    return [name for name, p_value in zip(p_values, adjusted, strict=True) if p_value <= rate]
