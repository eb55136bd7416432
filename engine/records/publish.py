"""`export.json` of `rayleigh export`, which the command prints with `--json`: what left a run, and what did not."""

from engine.records.base import Record
from engine.records.record import FileEntry


class DataExport(Record):
    """One export of training data. (Exports of students, such as GGUF, are jobs: `engine/records/export.py`.)"""

    format: str
    run: str
    """Path or URL of the run."""
    contract: str
    """Name of the contract."""
    dataset: str
    """Fingerprint of the artifact `dataset`."""
    created: str
    """ISO 8601, UTC."""
    where: str | None
    """Condition that a row must meet; null: every row."""
    licences: tuple[str, ...]
    """Licences that may leave; empty: all."""
    rows_in: int
    """Rows of the table; they equal those that left, and those that did not."""
    rows: dict[str, int]
    """Split -> rows that left."""
    left_out: dict[str, int]
    """Why rows did not leave -> rows: where, licence, withdrawn, form (the format cannot express them), personal (personal data in
    them that the format cannot replace)."""
    by_licence: dict[str, int]
    """Licence -> rows that left."""
    by_source: dict[str, int]
    """Source -> rows that left."""
    redacted: dict[str, int]
    """Kind of personal data that was still there, and was replaced -> rows."""
    suspected: dict[str, int]
    """Kind of personal data that was found and not replaced, as the contract does not name it -> rows. `--redact` replaces it."""
    files: tuple[FileEntry, ...]
    """Files of the export but export.json."""
    pushed: str | None = None
    """URL of the repository on a hub to which it was pushed; null: nothing left this machine."""
