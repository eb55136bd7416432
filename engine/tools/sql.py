"""Reading queries over given tables, in a database that lives apart."""

from functools import partial
from typing import Any

from engine.contract.tools import Sql as SqlSection
from engine.sandbox.database import BadQuery, Database, load
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess
from engine.tools.base import Result, place


class Sql:
    """Answers one SELECT a call, within the limits of its section."""

    def __init__(self, section: SqlSection, root: str) -> None:
        """Raises InputError if a table cannot be read."""
        self.tables = WorkerProcess(partial(Tables, section, root), CallLimits(section.seconds, section.memory_mib))
        self.description = self.tables.description

    def __call__(self, argument: str) -> Result:
        """Return the rows, one a line; that a query took too long or too much is a result too."""
        try:
            return Result(*self.tables(argument))
        except Exceeded as error:
            return Result(str(error), False)


class Tables:
    """The database, and how a model reads of it."""

    def __init__(self, section: SqlSection, root: str) -> None:
        """Raises InputError if a table cannot be read."""
        self.rows = section.rows
        self.database = Database({name: load(place(path, root)) for name, path in section.tables.items()})
        told = [f"{name} ({', '.join(self.database.columns(name))})" for name in section.tables]
        self.description = f"answers one SELECT over the tables {'; '.join(told)}"

    def __call__(self, argument: str) -> Result:
        """Return the rows, one a line: a lone column as its value, several as name=value."""
        try:
            names, found = self.database.read(argument, self.rows + 1)
        except BadQuery as error:
            return Result(str(error), False)
        lines = [_line(names, row) for row in found[: self.rows]]
        return Result("\n".join([*lines, "(there are more rows)"] if len(found) > len(lines) else lines), True)


def _line(names: list[str], row: tuple[Any, ...]) -> str:
    values = [f"{value:.12g}" if isinstance(value, float) else "null" if value is None else str(value) for value in row]
    return values[0] if len(values) == 1 else ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
