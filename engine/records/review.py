"""Output of `rayleigh review export --json` and `rayleigh review import --json`."""

from engine.records.base import Record


class ReviewExport(Record):
    """What an export wrote."""

    rows: int
    """Answers."""
    out: str
    """The file or folder."""


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
