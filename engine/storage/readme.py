"""The `README.md` of an artifact: what it is, for people; what to load, for `datasets.load_dataset`.

Its front matter lists the tables as `configs`, each with its splits, as the Hub and `datasets` read them
(https://huggingface.co/docs/hub/datasets-manual-configuration), and what made the artifact, which no shard says: equal rows are
equal bytes, whoever made them.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
import yaml

from engine.columns import about, described
from engine.records.record import ArtifactRecord, Table
from engine.rows import SPLITS
from engine.storage.folder import Folder

README = "README.md"
WHOLE = "full"
"""Split of a table whose rows are in no split of their own."""
SPLIT_OF = {"holdout": "test"}


def readme(record: ArtifactRecord, folder: Folder, fingerprint: str) -> str:
    """Return the text of the artifact with `record`, whose shards are in `folder`; equal artifacts have equal texts."""
    tables = {name: table for name, table in sorted(record.tables.items()) if table.shards}
    configs = [_config(name, table) for name, table in tables.items() if table.rows]  # `datasets` refuses a table without rows
    header = {
        **({"configs": configs} if configs else {}),
        "rayleigh": {
            "job": record.job,
            "fingerprint": fingerprint,
            "recipe": record.fingerprint,
            "inputs": record.inputs,
            "tables": {
                name: {"rows": table.rows, "digest": table.digest, "schema_version": table.schema_version}
                for name, table in sorted(record.tables.items())
            },
        },
    }
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=10**6)
    sections = [_section(name, table, folder) for name, table in tables.items()]
    return f"---\n{front}---\n\n# {record.job}\n\n" + "\n".join([*_introduction(record, tables), *sections])


def splits(name: str, table: Table) -> dict[str, int]:
    """Return split of the table `name` -> its rows, as its README declares them."""
    rows: dict[str, int] = {}
    for shard in table.shards:
        split = _split(name, shard.path)
        rows[split] = rows.get(split, 0) + shard.rows
    return rows


def _split(name: str, path: str) -> str:
    prefix = path.partition("-")[0]
    return prefix if prefix in SPLITS else SPLIT_OF.get(name, WHOLE)


def _config(name: str, table: Table) -> dict[str, Any]:
    prefixes = {_split(name, shard.path): shard.path.partition("-")[0] for shard in table.shards}
    files = [{"split": split, "path": f"{name}/{prefix}-*.parquet"} for split, prefix in prefixes.items()]
    return {"config_name": name, "data_files": files}


def _introduction(record: ArtifactRecord, tables: dict[str, Table]) -> list[str]:
    lines = [
        f"What the job `{record.job}` of Rayleigh made. `record.json` says from what, with which versions, and the size and hash",
        "of every file.",
        "",
    ]
    if tables:
        name, table = max(tables.items(), key=lambda pair: (set(splits(*pair)) == set(SPLITS), pair[1].rows))
        lines += ["| table | rows | splits |", "|---|---|---|"]
        lines += [
            f"| {each} | {shown.rows} | {', '.join(f'{split} {rows}' for split, rows in splits(each, shown).items())} |"
            for each, shown in tables.items()
        ]
        lines += [
            "",
            "A table is a folder of Parquet files and nothing else:",
            "",
            "```python",
            f'datasets.load_dataset("PATH", "{name}", split="{next(iter(splits(name, table)))}")',
            f'polars.scan_parquet("PATH/{name}/")',
            f'pandas.read_parquet("PATH/{name}")  # as pyarrow.dataset.dataset and spark.read.parquet',
            f"duckdb.sql(\"from 'PATH/{name}/*.parquet'\")",
            "```",
            "",
        ]
    return lines


def _section(name: str, table: Table, folder: Folder) -> str:
    with folder.open(f"{name}/{table.shards[0].path}") as file:
        metadata = pq.read_metadata(file)
    schema, texts = metadata.schema.to_arrow_schema(), described(metadata.metadata)
    lines = [
        f"## {name}",
        "",
        about(metadata.metadata).get("description", ""),
        "",
        "| column | type | null | |",
        "|---|---|---|---|",
    ]
    for field in schema:
        inner = [path for path in texts if path.startswith(f"{field.name}.")]
        lines.append(_row(field.name, str(field.type) if not inner else "list of structs", texts.get(field.name, {})))
        lines += [_row(path, "", texts[path]) for path in inner]
    return "\n".join([*lines, ""])


def _row(path: str, kind: str, text: Mapping[str, Any]) -> str:
    null = ("yes" if text.get("nullable") else "no") if text else ""
    cells = (path, kind, null, in_words(text))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def in_words(text: Mapping[str, Any]) -> str:
    """Return what is declared of a column, as one sentence for a person."""
    parts = [text.get("description", "")]
    if text.get("unit"):
        parts.append(f"in {text['unit']}")
    if low_high := [f"{word} {text[key]:g}" for word, key in (("at least", "minimum"), ("at most", "maximum")) if key in text]:
        parts.append(", ".join(low_high))
    if text.get("values"):
        parts.append("one of " + ", ".join(f"`{value}`" if value else '""' for value in text["values"]))
    return "; ".join(part for part in parts if part)
