"""An artifact of every kind with every table that a job writes, filled from the declarations: a new table is in it by itself."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.columns import Column, Declaration, declaration
from engine.records.record import Identity
from engine.rows import Row, from_rows
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from jobs.tables import WRITTEN

ROWS = 5
NAMES = {"tokens/examples_*": "tokens/examples_0123456789ab", "students/*/steps": "students/s/steps"}
NAMES |= {"search/*/table/trials": "search/s/table/trials", "requests": "records/requests", "shadows": "records/shadows"}


def every_table(root: Path) -> dict[str, tuple[Artifact, str, Declaration]]:
    """Write the artifacts below `root`; return `job/table` -> artifact, name of the table, declaration."""
    writers: dict[str, ArtifactWriter] = {}
    tables: dict[str, tuple[str, str, Declaration]] = {}
    for pattern, schema in WRITTEN.items():
        key = NAMES.get(pattern, pattern)
        job, _, name = key.rpartition("/")
        declared = declaration(schema)
        assert declared is not None
        writer = writers.setdefault(job, ArtifactWriter(Folder(str(root / job))))
        writer.put(name, from_rows([row(declared, number) for number in range(ROWS)], schema), schema)
        tables[key] = (job, name, declared)
    made = {job: writer.finish(Identity(job, {}, {}, "0"), RowCounts(0, {})) for job, writer in writers.items()}
    return {key: (made[job], name, declared) for key, (job, name, declared) in tables.items()}


def row(declared: Declaration, number: int) -> Row:
    """Return row `number`: odd ones have null wherever a value may be missing."""
    return {column.name: _value(declared, column.name, column, number) for column in declared.columns}


def _value(declared: Declaration, path: str, column: Column, number: int) -> Any:
    rules, kind = column.rules, column.type
    if rules.null and number % 2:
        return None
    if rules.values:
        return rules.values[number % len(rules.values)]
    if pa.types.is_list(kind):
        inner = {name: one for name, one in declared.by_path.items() if name.startswith(f"{path}.")}
        if inner:
            return [{one.name: _value(declared, name, one, number) for name, one in inner.items()}] * (number % 3 + 1)
        return [_plain(kind.value_type, path, number)] * (number % 3 + 1)
    if pa.types.is_integer(kind):
        return int(rules.low or 0) + number
    return 0.5 + (rules.low or 0) if pa.types.is_floating(kind) else _plain(kind, path, number)


def _plain(kind: pa.DataType, path: str, number: int) -> Any:
    if pa.types.is_string(kind):
        return f"{path} {number}"
    if pa.types.is_binary(kind):
        return bytes([number])
    return bool(number % 2) if pa.types.is_boolean(kind) else number
