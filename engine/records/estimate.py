"""A measured number with its interval, and one bar of a reliability diagram."""

from engine.records.base import Record


class Estimate(Record):
    """A number that was measured on a sample."""

    value: float
    """The number itself."""
    low: float
    """Lower end of its confidence interval."""
    high: float
    """Upper end of its confidence interval."""
    n: int = 0
    """Items that it was measured on; 0 if an older file does not record it."""


class ReliabilityBin(Record):
    """One bin of a reliability diagram: the items whose confidence lies in (low, high]."""

    low: float = 0.0
    """Lower bound of the confidence, exclusive; the first bin includes 0."""
    high: float = 1.0
    """Upper bound of the confidence, inclusive."""
    n: int = 0
    """Items in the bin."""
    confidence: float | None = None
    """Their mean confidence; null in an empty bin."""
    accuracy: float | None = None
    """Share of them that is right; null in an empty bin."""
