"""A query against the right one: do they give the same rows? In a database in memory that reaches nothing, and lives apart."""

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any

from engine.checks.code import unfenced
from engine.checks.outcome import Outcome, Seen, outcome, pick
from engine.checks.reference import lacks, reference
from engine.contract.checks import Sql
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess

MOST_ROWS = 100_000  # that are compared


def check_sql(seen: Seen, check: Sql) -> Outcome:
    """Pass if the answer's SELECT gives the rows of the reference, as often as there; in their order only if that counts."""
    found, value = pick(seen.answer, check.field)
    wanted, setup = reference(seen, check.reference, check.type), reference(seen, check.setup, check.type)
    if wanted.lacks or setup.lacks:
        return wanted.lacks or setup.lacks or outcome(check.type, "")
    query = unfenced(str(value), ("sql", "duckdb", "")).strip() if value is not None else ""
    if not found or not query:
        return outcome(check.type, "no_code", seen.answer)
    argument = {"setup": setup.text, "wanted": wanted.text, "query": query, "ordered": check.ordered}
    try:
        tag, detail = _apart(check.seconds, check.memory_mib)(json.dumps(argument))
    except Exceeded as error:
        return outcome(check.type, "timed_out", str(error))
    return lacks(check.reference, check.type) if tag == "no_reference" else outcome(check.type, tag, detail)


class Queries:
    """Two queries over the same tables."""

    description = "compares the rows of two queries"

    def __init__(self) -> None:
        from engine.sandbox import database  # DuckDB and Arrow: only where queries are run

        self.made = lru_cache(maxsize=4)(lambda setup: database.Database({}, setup))
        self.bad = database.BadQuery

    def __call__(self, argument: str) -> tuple[str, str]:
        """Return tag and detail."""
        given = json.loads(argument)
        try:
            tables = self.made(given["setup"])
            wanted = tables.read(given["wanted"], MOST_ROWS).rows
        except self.bad as error:
            return "no_reference", str(error)
        try:
            found = tables.read(given["query"], len(wanted) + 1).rows
        except self.bad as error:
            return "sql_failed", str(error)
        ours, theirs = ([[cell(value) for value in row] for row in rows] for rows in (wanted, found))
        same = ours == theirs if given["ordered"] else sorted(ours) == sorted(theirs)
        return ("", "") if same else ("off_result", f"found {theirs[:3]}, expected {ours[:3]}")


def cell(value: Any) -> str:
    """Return a value as it is compared: numbers of different types are equal, and to 12 digits."""
    if value is None:
        return "null"
    if isinstance(value, float | Decimal) and value == value and abs(value) < 1e15:
        return f"{float(value):.12g}"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=8)
def _apart(seconds: int, memory_mib: int) -> WorkerProcess:
    return WorkerProcess(Queries, CallLimits(seconds, memory_mib))
