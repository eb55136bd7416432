"""SELECT queries over tables of the contract, in a database in a worker process."""

from functools import partial
from typing import Any

from engine.contract.tools import Sql as SqlSection
from engine.readers.below import below
from engine.sandbox.database import BadQuery, Database, load
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess
from engine.tools.base import Result


class Sql:
    """Answers one SELECT a call, within the limits of the section."""

    def __init__(self, section: SqlSection, root: str) -> None:
        """Start the worker process. Raises InputError if a table cannot be read."""
        self.tables = WorkerProcess(partial(Tables, section, root), CallLimits(section.seconds, section.memory_mib))
        self.description = self.tables.description

    def __call__(self, argument: str) -> Result:
        """Return the rows, one a line. Exceeding a limit is a failed result."""
        try:
            return Result(*self.tables(argument))
        except Exceeded as error:
            return Result(str(error), False)


class Tables:
    """The database, and its rows as text for a model; runs in the worker process."""

    def __init__(self, section: SqlSection, root: str) -> None:
        """Load the tables. Raises InputError if one cannot be read."""
        self.rows = section.rows
        self.database = Database({name: load(below(root, path)) for name, path in section.tables.items()})
        described = [f"{name} ({', '.join(self.database.columns(name))})" for name in section.tables]
        self.description = f"answers one SELECT over the tables {'; '.join(described)}"

    def __call__(self, argument: str) -> Result:
        """Return the rows, one a line: one column as its value, several columns as name=value."""
        try:
            names, rows = self.database.read(argument, self.rows + 1)
        except BadQuery as error:
            return Result(str(error), False)
        lines = [_line(names, row) for row in rows[: self.rows]]
        return Result("\n".join([*lines, "(there are more rows)"] if len(rows) > len(lines) else lines), True)


def _line(names: list[str], row: tuple[Any, ...]) -> str:
    values = [f"{value:.12g}" if isinstance(value, float) else "null" if value is None else str(value) for value in row]
    return values[0] if len(values) == 1 else ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
