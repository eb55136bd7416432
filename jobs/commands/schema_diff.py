"""How the tables of one run differ from those of another: columns, types, nullability, closed sets, units."""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from engine.columns import described
from engine.records.check_data import ColumnChange, SchemaDiff
from engine.storage.artifact import Artifact
from engine.storage.migrations import RENAMED
from jobs import places
from jobs.commands.sql import finished

Fields = dict[str, tuple[str, Mapping[str, object]]]
"""Path of a column -> its type and what its file declares of it."""
DECLARED = {"nullable": "nullability", "values": "values", "unit": "unit"}


def schema_diff(a: str, b: str) -> SchemaDiff:
    """Compare the schemas that the files of the runs `a` and `b` have; tables that both have are compared by column.

    Raises:
        MissingArtifact: a run has no finished job.
    """
    before, after = _tables(finished(a)), _tables(finished(b))
    changes: list[ColumnChange] = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after or name not in before:
            change, columns = ("removed", before[name]) if name in before else ("added", after[name])
            text = f"{len(columns)} columns"
            sides = (text, "") if change == "removed" else ("", text)
            changes.append(ColumnChange(table=name, column="", change=change, before=sides[0], after=sides[1]))
        else:
            changes += _changes(name, before[name], after[name])
    folders = (str(places.run_folder(run)) for run in (a, b))
    return SchemaDiff(a=next(folders), b=next(folders), tables=len(before.keys() & after.keys()), changes=tuple(changes))


def as_text(result: SchemaDiff) -> str:
    """Return the changes for a person, one a line."""
    lines = []
    for each in result.changes:
        place = each.table + (f".{each.column}" if each.column else "")
        values = " -> ".join(value for value in (each.before, each.after) if value)
        lines.append(f"{place}: {each.change}: {values}")
    verdict = f"{len(result.changes)} changes" if result.changes else "no change"
    return "\n".join([*lines, f"{result.a} -> {result.b}: {verdict} ({result.tables} tables in both)"])


def _tables(artifacts: dict[str, Artifact]) -> dict[str, Fields]:
    """Return job/table -> its columns, of the first shard; students' tables of one name are one, and so are the tokenizers'."""
    found: dict[str, Fields] = {}
    for job, artifact in artifacts.items():
        for name, table in artifact.record.tables.items():
            group = job.partition("/")[0]
            key = f"{group}/{'examples_*' if group == 'tokens' else name}"
            if table.shards and key not in found:
                with artifact.folder.open(f"{name}/{table.shards[0].path}") as file:
                    found[key] = _fields(pq.read_metadata(file))
    return found


def _fields(metadata: pq.FileMetaData) -> Fields:
    texts = described(metadata.metadata)
    return {path: (kind, texts.get(path, {})) for path, kind in _paths(metadata.schema.to_arrow_schema())}


def _paths(fields: Iterator[pa.Field] | pa.Schema, parent: str = "") -> Iterator[tuple[str, str]]:
    for field in fields:
        kind = field.type
        if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
            yield f"{parent}{field.name}", "list of structs"
            yield from _paths(iter(kind.value_type), f"{parent}{field.name}.")
        else:
            yield f"{parent}{field.name}", f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def _changes(table: str, before: Fields, after: Fields) -> Iterator[ColumnChange]:
    names = {path: now for path in before if path not in after and (now := _renamed(path)) in after}
    for path, (kind, declared) in before.items():
        now = names.get(path, path)
        if now not in after:
            yield ColumnChange(table=table, column=path, change="removed", before=kind, after="")
            continue
        if now != path and "." not in path:
            yield ColumnChange(table=table, column=path, change="renamed", before=path, after=now)
        if after[now][0] != kind:
            yield ColumnChange(table=table, column=now, change="type", before=kind, after=after[now][0])
        if declared and after[now][1]:  # files of older versions declare nothing
            yield from _redeclared(table, now, declared, after[now][1])
    known = before.keys() | set(names.values())
    for path in (path for path in after if path not in known):
        yield ColumnChange(table=table, column=path, change="added", before="", after=after[path][0])


def _renamed(path: str) -> str:
    """Return the path that a migration gives to `path`, or to the column inside of which it is."""
    column, dot, inner = path.partition(".")
    return f"{RENAMED.get(column, column)}{dot}{inner}"


def _redeclared(table: str, column: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[ColumnChange]:
    for key, change in DECLARED.items():
        one, other = before.get(key), after.get(key)
        if one != other:
            yield ColumnChange(table=table, column=column, change=change, before=_shown(key, one), after=_shown(key, other))  # pyright: ignore


def _shown(key: str, value: object) -> str:
    if key == "nullable":
        return "null" if value else "not null"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "none")
