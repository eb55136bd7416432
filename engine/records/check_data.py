"""Output of `rayleigh check-data` and `rayleigh schema diff`."""

from typing import Literal

from engine.records.base import Record

Rule = Literal[
    "file", "unlisted", "digest", "lineage", "conservation", "count", "column", "null", "nan", "values", "range", "unique",
    "reference", "row",
]  # fmt: skip


class Violation(Record):
    """One rule that does not hold."""

    job: str
    table: str
    """Name of the table; "" for the artifact as a whole."""
    column: str
    """Path of the column, name of the file, or label of the record; "" for the table as a whole."""
    rule: Rule
    """file: missing, or other bytes than the record lists. unlisted: a file that the record does not list. digest: other rows than
    the record counts. lineage: made from another artifact than the one in the run. conservation: rows in are not rows out. count:
    rows per label are not those of the record. column: missing, or of another type. null, nan, values (closed set), range, unique,
    reference: as the words say. row: columns of one row contradict each other."""
    count: int
    """Rows, or files, that break it."""
    ids: tuple[str, ...]
    """The first of them: values of the columns that identify a row, joined by `/`; or paths."""
    found: str
    """What is there, with what was expected."""
    next: str
    """What to do."""


class DataCheck(Record):
    """What the data contracts of a run's tables say."""

    run: str
    artifacts: int
    files: int
    """Files whose size and hash were compared with the record."""
    tables: int
    """Tables whose rows were checked."""
    rows: int
    """Their rows."""
    violations: tuple[Violation, ...]
    skipped: tuple[str, ...]
    """`job/table` of which no row was checked, because its files are damaged, or only files were asked for."""

    @property
    def ok(self) -> bool:
        """Whether every rule holds."""
        return not self.violations


class ColumnChange(Record):
    """One difference between the schemas of a table in two runs."""

    table: str
    """`job/table`; students' tables are compared by table."""
    column: str
    """Path of the column; "" for the whole table."""
    change: Literal["added", "removed", "renamed", "type", "nullability", "values", "unit"]
    before: str
    after: str


class SchemaDiff(Record):
    """How the tables of run B differ from those of run A, as their files say."""

    a: str
    b: str
    tables: int
    """Tables that are in both."""
    changes: tuple[ColumnChange, ...]
