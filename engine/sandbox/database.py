"""A DuckDB in memory that holds the tables it was built with and has no access to files or network.

Use it in a `worker_process.WorkerProcess`: a query can exceed DuckDB's own memory limit, such as a list of a billion numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from engine.errors import InputError
from engine.retry import with_retries

READERS: dict[str, Callable[[Any], pa.Table]] = {
    "csv": pyarrow.csv.read_csv,
    "jsonl": pyarrow.json.read_json,
    "parquet": pyarrow.parquet.read_table,
}
# Set once the tables are loaded: no spilling, no Python variables as tables, no files, no network, and no way to undo this.
LOCKED = (
    "temp_directory = ''",
    "python_enable_replacements = false",
    "enable_external_access = false",
    "lock_configuration = true",
)


class QueryResult(NamedTuple):
    """Columns and rows of a query."""

    names: list[str]
    rows: list[tuple[Any, ...]]


class BadQuery(Exception):
    """The query is not exactly one SELECT, or DuckDB cannot answer it."""


class Database:
    """Tables that can be read by one SELECT a call."""

    def __init__(self, tables: Mapping[str, pa.Table], script: str = "") -> None:
        """Load `tables` by name, lock the database, then run `script`, which may create more tables.

        Raises:
            BadQuery: the script fails.
        """
        self.connection = duckdb.connect(":memory:", config={"threads": 1})
        for name, table in tables.items():
            self.connection.register("loaded", table)
            self.connection.execute(f"create table {name} as select * from loaded")
            self.connection.unregister("loaded")
        for setting in LOCKED:
            self.connection.execute(f"set {setting}")
        try:
            self.connection.execute(script or "select 1")
        except duckdb.Error as error:
            raise BadQuery(_reason(error)) from None

    def read(self, query: str, rows: int) -> QueryResult:
        """Return at most `rows` rows.

        Raises:
            BadQuery: `query` is not exactly one SELECT, or DuckDB cannot answer it.
        """
        try:
            kinds = [statement.type for statement in self.connection.extract_statements(query)]
            if kinds != [duckdb.StatementType.SELECT]:
                raise BadQuery(f"found {', '.join(kind.name for kind in kinds) or 'nothing'}, expected one SELECT")
            cursor = self.connection.cursor()  # a cursor for each query, so that no state is left for the next
            fetched = cursor.execute(query).fetchmany(rows)
            return QueryResult([column[0] for column in cursor.description or ()], fetched)
        except duckdb.Error as error:
            raise BadQuery(_reason(error)) from None

    def columns(self, table: str) -> list[str]:
        """Return `name type` of each column of `table`."""
        return [f"{column[0]} {column[1]}" for column in self.connection.execute(f"describe {table}").fetchall()]


def load(where: str) -> pa.Table:
    """Return the table in a CSV, JSONL or Parquet file or URL.

    Raises:
        InputError: it cannot be read.
    """
    reader = READERS.get(where.rpartition(".")[2].lower())
    if reader is None:
        raise InputError(f"table {where}: found an unknown ending, expected one of {', '.join(READERS)}. Convert it.")

    def read() -> pa.Table:
        with fsspec.open(where, "rb") as file:
            return reader(file)

    try:
        return with_retries(where, read) if "://" in where else read()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"table {where}: cannot be read: {error}. Correct the file, or its path in the contract.") from None


def _reason(error: duckdb.Error) -> str:
    return str(error).partition("\n\n")[0]
