"""A query returns the same rows as the reference query, in a DuckDB in memory without files and network, in a worker process."""

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any

from engine.checks.code import first_code_block
from engine.checks.reference import missing_reference, resolve_reference
from engine.checks.result import CheckInput, CheckResult, field_value, result
from engine.contract.checks import Sql
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess

MAX_ROWS = 100_000  # that are compared


def check_sql(inputs: CheckInput, check: Sql) -> CheckResult:
    """Pass if the answer's SELECT returns the rows of the reference, as often as there; in the same order only if `ordered`."""
    exists, value = field_value(inputs.answer, check.field)
    reference, setup = (resolve_reference(inputs, section, check.type) for section in (check.reference, check.setup))
    if reference.missing or setup.missing:
        return reference.missing or setup.missing or result(check.type, "")
    query = first_code_block(str(value), ("sql", "duckdb", "")).strip() if value is not None else ""
    if not exists or not query:
        return result(check.type, "no_code", inputs.answer)
    argument = {"setup": setup.text, "reference": reference.text, "query": query, "ordered": check.ordered}
    try:
        tag, detail = _worker(check.seconds, check.memory_mib)(json.dumps(argument))
    except Exceeded as error:
        return result(check.type, "timed_out", str(error))
    return missing_reference(check.reference, check.type) if tag == "no_reference" else result(check.type, tag, detail)


class Queries:
    """Compares two queries over the same tables; runs in a worker process."""

    description = "compares the rows of two queries"

    def __init__(self) -> None:
        from engine.sandbox import database  # DuckDB and Arrow: only where queries are run

        self.database = lru_cache(maxsize=4)(lambda setup: database.Database({}, setup))
        self.bad_query = database.BadQuery

    def __call__(self, argument: str) -> tuple[str, str]:
        """Return (tag, detail) for a JSON object with setup, reference, query and ordered."""
        call = json.loads(argument)
        try:
            tables = self.database(call["setup"])
            expected_rows = tables.read(call["reference"], MAX_ROWS).rows
        except self.bad_query as error:
            return "no_reference", str(error)
        try:
            actual_rows = tables.read(call["query"], len(expected_rows) + 1).rows
        except self.bad_query as error:
            return "sql_failed", str(error)
        expected, actual = ([[cell(value) for value in row] for row in rows] for rows in (expected_rows, actual_rows))
        same = expected == actual if call["ordered"] else sorted(expected) == sorted(actual)
        return ("", "") if same else ("off_result", f"found {actual[:3]}, expected {expected[:3]}")


def cell(value: Any) -> str:
    """Return a value as text for comparison: numbers of different types are equal, to 12 significant digits."""
    if value is None:
        return "null"
    if isinstance(value, float | Decimal) and value == value and abs(value) < 1e15:
        return f"{float(value):.12g}"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=8)
def _worker(seconds: int, memory_mib: int) -> WorkerProcess:
    return WorkerProcess(Queries, CallLimits(seconds, memory_mib))
