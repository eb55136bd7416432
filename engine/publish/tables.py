"""The tables that leave a run, declared as those of artifacts are: texts, units and closed sets of columns leave with them."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from engine.columns import About, Column, Declaration, declaration, declare, description
from engine.rows import CANDIDATE, EXAMPLE, PREFERENCE, PROMPT, VERSION
from engine.storage.readme import in_words


def _taken(schema: pa.Schema, *names: str) -> Iterator[Column]:
    """Yield columns of a declared schema as those of a row that may have no such prompt or answer."""
    for name in names:
        column = _declared(schema).by_path[name]
        yield column._replace(rules=replace(column.rules, null=True))


def _declared(schema: pa.Schema) -> Declaration:
    found = declaration(schema)
    assert found is not None, f"{schema.names} are not declared"
    return found


ABOUT = tuple(_taken(PROMPT, "licence", "source", "line", "language", "parent_id"))
EXPORTED_EXAMPLE = declare(
    About("One row per example, with where its prompt comes from and who answered.", EXAMPLE),
    *ABOUT,
    *_taken(CANDIDATE, "teacher", "confidence"),
)
EXPORTED_PREFERENCE = declare(About("One row per pair, with where its prompt comes from.", PREFERENCE), *ABOUT)
SCHEMAS = {"examples": EXPORTED_EXAMPLE, "preferences": EXPORTED_PREFERENCE}
"""Table -> the columns that leave: its own, and where the prompt comes from."""


def text_of(table: str) -> str:
    """Return what a row of `table` is."""
    return _declared(SCHEMAS[table]).text


def annotated(table: str, key: str) -> pa.Schema:
    """Return the schema of `table` with what is declared of each column as metadata of its field, also inside of lists of structs.

    The text of a column with unit, limits and closed set is under `key`, where the format shows it; the parts are under their own
    names, as in the Parquet files of an artifact.
    """
    declared = _declared(SCHEMAS[table])
    return pa.schema([_field(declared, column.name, column, key) for column in declared.columns])


def _field(declared: Declaration, path: str, column: Column, key: str) -> pa.Field:
    parts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in description(column).items()}
    inner = [(name, one) for name, one in declared.by_path.items() if name.startswith(f"{path}.")]
    kind = pa.list_(pa.struct([_field(declared, name, one, key) for name, one in inner])) if inner else column.type
    return pa.field(column.name, kind, metadata={**parts, key: in_words(description(column))})


def columns_as_markdown(table: str) -> str:
    """Return the columns of `table` as a table in Markdown."""
    lines = ["| column | type | null | |", "|---|---|---|---|"]
    declared = _declared(SCHEMAS[table])
    for path, column in declared.by_path.items():
        inner = any(other.startswith(f"{path}.") for other in declared.by_path)
        kind, text = "list of structs" if inner else str(column.type), in_words(description(column)).replace("|", "\\|")
        lines.append(f"| {path} | {kind} | {'yes' if column.rules.null else 'no'} | {text} |")
    return "\n".join([*lines, "", f"Schema version {VERSION}."])
