"""Several hypotheses at once: Holm's procedure for students, Benjamini and Hochberg's for slices."""

from collections.abc import Mapping


def holm(p_values: Mapping[str, float], level: float) -> list[str]:
    """Return the names that are rejected with a family-wise error of at most `level` (Holm, Scand. J. Statist. 6, 1979)."""
    from statsmodels.stats.multitest import multipletests  # a second of import

    if not p_values:
        return []
    rejected = multipletests(list(p_values.values()), alpha=level, method="holm")[0]
    return [name for name, is_rejected in zip(p_values, rejected, strict=True) if is_rejected]


def benjamini_hochberg(p_values: Mapping[str, float], rate: float) -> list[str]:
    """Return the names that are rejected with a false discovery rate of at most `rate` (1995)."""
    from scipy.stats import false_discovery_control

    if not p_values:
        return []
    adjusted = false_discovery_control(list(p_values.values()), method="bh")
    return [name for name, p_value in zip(p_values, adjusted, strict=True) if p_value <= rate]
