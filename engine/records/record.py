"""`record.json`: what a finished artifact holds, and what it was made from and with."""

from dataclasses import dataclass, field

from engine.records.base import Json, Record

RECORD_VERSION = 2


@dataclass(frozen=True, order=True)
class Shard:
    """One Parquet file of a table."""

    path: str
    """Relative to the table's folder."""
    rows: int
    bytes: int
    sha256: str
    nan: dict[str, int] = field(default_factory=dict, compare=False)
    """Column -> values that are no number, of columns that have some; {} also for shards of records that did not count them."""


@dataclass(frozen=True)
class Table:
    """All shards of one table."""

    schema_version: int
    """Version of `engine/rows.py` that wrote it; older ones are migrated when they are read."""
    rows: int
    bytes: int
    digest: str
    """Hash of the rows in any order: equal for equal rows, however they are split into shards."""
    shards: list[Shard]


@dataclass(frozen=True)
class FileEntry:
    """A file of an artifact that belongs to no table, such as a student's weights."""

    path: str
    """Relative to the artifact's folder."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class RowCounts:
    """What a job did with its rows: `rows_in` equals the sum of `rows_out`."""

    rows_in: int
    rows_out: dict[str, int]
    """Label (pool, split or drop reason) -> rows."""

    @property
    def conserved(self) -> bool:
        """Whether no row was lost or invented."""
        return self.rows_in == sum(self.rows_out.values())


@dataclass(frozen=True)
class Identity:
    """What decides whether an artifact has to be built again."""

    job: str
    """Name of the job, such as `candidates` or `students/s`."""
    recipe: Json
    """Path into the contract -> the value there; `sources` -> hashes of the files that the job reads."""
    inputs: dict[str, str]
    """Name of an artifact that the job reads -> its fingerprint."""
    fingerprint: str
    """Hash of `recipe` and `inputs`."""


class ArtifactRecord(Record):
    """The record of one artifact; written last, so that an artifact with a record is whole.

    Records of version 1 are promoted when they are read; their recipe keeps the names of that time (`engine/runs/recipe.py`).
    """

    version: int = 1
    """Version of this form."""
    job: str
    """Name of the job that made the artifact."""
    recipe: Json
    """Path into the contract -> the value there; `sources` -> hashes of the files that the job read."""
    inputs: dict[str, str]
    """Name of an artifact that the job read -> its fingerprint."""
    fingerprint: str
    """Hash of `recipe` and `inputs`, as they were written at the time."""
    row_counts: RowCounts
    tables: dict[str, Table]
    """Name of a table -> its shards."""
    files: tuple[FileEntry, ...]
    """All other files."""
    documents: tuple[FileEntry, ...] = ()
    """Files that describe the artifact, such as its `README.md`; no part of its fingerprint. () in records that are older."""
    metrics: Json
    """What the job measured; each job has a model of its own in `engine/records`."""
    warnings: tuple[str, ...] = ()
    """What a person should look at, such as a reason for which most rows were dropped."""
    started: float
    """Unix time, seconds."""
    seconds: float
    """Wall time of the job."""
    packages: dict[str, str]
    """Package -> version, of those that can change a result."""
    commit: str | None = None
    """Commit of the code, with `+` if files were changed since; null outside of a checkout."""
