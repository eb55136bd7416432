"""Output of `rayleigh review export --json` and `rayleigh review import --json`."""

from engine.records.base import Record
from engine.records.estimate import Estimate


class IntervalForecast(Record):
    """One number of the judge, and how narrow its interval would get by the labels of the answers that were drawn."""

    name: str
    """sensitivity, specificity or auc."""
    now: Estimate
    """On the labelled items of the contract."""
    then: Estimate
    """The same number on as many more items, if it stays."""


class ReviewExport(Record):
    """What an export wrote."""

    rows: int
    """Answers."""
    out: str
    """The file or folder."""
    intervals: tuple[IntervalForecast, ...] = ()
    """With `--draw`: what the labels would do to the judge's numbers; empty without labelled items."""


class ReviewImport(Record):
    """What an import changed."""

    new: int
    """Labels of answers that had none."""
    changed: int
    """Labels that replaced another one."""
    same: int
    """Labels that were known already."""
    open: int
    """Rows without a label."""
    labels: dict[str, int]
    """Label -> answers, after the import."""
    removed: bool
    """Whether the dataset was removed, because it was made with other labels."""
    run: str
    contract: str
