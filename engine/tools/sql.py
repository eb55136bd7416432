"""Reading queries over given tables, in a DuckDB that holds nothing else and reaches nothing outside of itself.

It lives in a process of its own: a query can ask for more than DuckDB itself keeps within its limits, a list of a billion numbers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from engine.contract.tools import Sql as SqlSection
from engine.errors import InputError
from engine.tools.apart import Apart, Limits
from engine.tools.base import Result, place

READERS: dict[str, Callable[[Any], pa.Table]] = {
    "csv": pyarrow.csv.read_csv,
    "jsonl": pyarrow.json.read_json,
    "parquet": pyarrow.parquet.read_table,
}
# Once the tables are in: no spilling, no Python variables as tables, no files, no network, and no way back.
CLOSED = (
    "temp_directory = ''",
    "python_enable_replacements = false",
    "enable_external_access = false",
    "lock_configuration = true",
)


class Sql(Apart):
    """Answers one SELECT a call, within the limits of its section."""

    def __init__(self, section: SqlSection, root: str) -> None:
        """Raises InputError if a table cannot be read."""
        super().__init__(partial(Tables, section, root), Limits(section.seconds, section.memory_mib))


class Tables:
    """The database itself."""

    def __init__(self, section: SqlSection, root: str) -> None:
        """Raises InputError if a table cannot be read."""
        self.rows = section.rows
        self.connection = duckdb.connect(":memory:", config={"threads": 1})
        for name, path in section.tables.items():
            self._load(name, _read(place(path, root)))
        for setting in CLOSED:
            self.connection.execute(f"set {setting}")
        self.description = f"answers one SELECT over the tables {'; '.join(self._described(name) for name in section.tables)}"

    def __call__(self, argument: str) -> Result:
        """Return the rows, one a line: a lone column as its value, several as name=value."""
        try:
            kinds = [statement.type for statement in self.connection.extract_statements(argument)]
            if kinds != [duckdb.StatementType.SELECT]:
                return Result(f"found {', '.join(kind.name for kind in kinds) or 'nothing'}, expected one SELECT", False)
            return Result(self._query(argument), True)
        except duckdb.Error as error:
            return Result(str(error).partition("\n\n")[0], False)

    def _query(self, query: str) -> str:
        cursor = self.connection.cursor()  # of its own, so that nothing of a query stays for the next
        found = cursor.execute(query).fetchmany(self.rows + 1)
        names = [column[0] for column in cursor.description or ()]
        lines = [_line(names, row) for row in found[: self.rows]]
        return "\n".join([*lines, "(there are more rows)"] if len(found) > len(lines) else lines)

    def _load(self, name: str, table: pa.Table) -> None:
        self.connection.register("given", table)
        self.connection.execute(f"create table {name} as select * from given")
        self.connection.unregister("given")

    def _described(self, name: str) -> str:
        columns = self.connection.execute(f"describe {name}").fetchall()
        return f"{name} ({', '.join(f'{column[0]} {column[1]}' for column in columns)})"


def _read(where: str) -> pa.Table:
    reader = READERS.get(where.rpartition(".")[2].lower())
    if reader is None:
        raise InputError(f"table {where}: found an unknown ending, expected one of {', '.join(READERS)}. Convert it.")
    try:
        with fsspec.open(where, "rb") as file:
            return reader(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"table {where}: cannot be read: {error}. Mend the file, or teachers.tools.") from None


def _line(names: list[str], row: tuple[Any, ...]) -> str:
    values = [f"{value:.12g}" if isinstance(value, float) else "null" if value is None else str(value) for value in row]
    return values[0] if len(values) == 1 else ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
