"""Every table that a job writes, with its schema; `python -m jobs.tables` prints them as `engine/storage/TABLES.md`."""

import sys
from collections.abc import Iterator
from fnmatch import fnmatch

import pyarrow as pa

from engine.capture.schemas import CAPTURE, VOCABULARY
from engine.columns import declaration, description
from engine.rows import TABLES, TOKENS, VERSION
from engine.serving.schemas import REQUEST, SHADOW
from engine.storage.readme import in_words
from jobs.commands.search_table import TRIAL

WRITTEN: dict[str, pa.Schema] = {
    **{f"prompts/{name}": TABLES[name] for name in ("prompts", "holdout", "rejects", "dropped")},
    "candidates/candidates": TABLES["candidates"],
    **{f"dataset/{name}": TABLES[name] for name in ("picked", "embeddings", "examples", "preferences")},
    "tokens/examples_*": TOKENS,
    "capture/captured": CAPTURE,
    "capture/vocabulary": VOCABULARY,
    "students/*/steps": TABLES["steps"],
    "reports/predictions": TABLES["predictions"],
    "search/*/table/trials": TRIAL,
    "requests": REQUEST,
    "shadows": SHADOW,
}
"""Pattern of `job/table` -> its schema; `requests` and `shadows` are tables of a server's records."""


def schema_of(key: str) -> pa.Schema | None:
    """Return the schema of the table `job/table`; None if no job of the pipeline writes one of that name."""
    return next((schema for pattern, schema in WRITTEN.items() if fnmatch(key, pattern)), None)


def document() -> str:
    """Return all tables and columns as Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Tables"
    yield ""
    yield f"Schema version {VERSION}. Written by `python -m jobs.tables` from the declarations in `engine/rows.py`; the metadata of"
    yield "each Parquet file say the same. Where it does not say that a value may be null, none is."
    for key, schema in WRITTEN.items():
        declared = declaration(schema)
        assert declared is not None, f"{key} is not declared"
        yield from ("", f"## {key}", "", declared.text + _unique(declared.unique), "", "| column | type | |", "|---|---|---|")
        for path, column in declared.by_path.items():
            inner = any(other.startswith(f"{path}.") for other in declared.by_path)
            kind = "list of structs" if inner else str(column.type)
            text = in_words(description(column)) + ("; may be null" if column.rules.null else "")
            yield f"| {path} | {kind} | {text.replace('|', '&#124;')} |"
    yield ""


def _unique(names: tuple[str, ...]) -> str:
    return f" Unique: {', '.join(names)}." if names else ""


if __name__ == "__main__":
    sys.stdout.write(document())
