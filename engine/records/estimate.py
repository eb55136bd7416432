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
    n: int
    """Items that it was measured on."""


class ReliabilityBin(Record):
    """One bin of a reliability diagram: the items whose confidence lies in (low, high]."""

    low: float
    """Lower bound of the confidence, exclusive; the first bin includes 0."""
    high: float
    """Upper bound of the confidence, inclusive."""
    n: int
    """Items in the bin."""
    confidence: float | None
    """Their mean confidence; null in an empty bin."""
    accuracy: float | None
    """Share of them that is right; null in an empty bin."""
