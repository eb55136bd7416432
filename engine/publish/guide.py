"""The `README.md` of an export as tables or arrays: what it holds, and how it is opened."""

from collections.abc import Mapping, Sequence

from engine.publish.arrays import DOCS
from engine.publish.formats import CATALOGUE
from engine.publish.tables import columns_as_markdown, text_of
from engine.records.publish import DataExport

OPENED = {
    "delta": """from deltalake import DeltaTable

table = DeltaTable("{out}/{table}")
rows = table.to_pyarrow_table()
docs = {{field.name: field.metadata["comment"] for field in table.schema().fields}}""",
    "iceberg": """from pyiceberg.catalog.sql import SqlCatalog

catalog = SqlCatalog("{name}", uri="sqlite:///{out}/{catalogue}")
table = catalog.load_table("{name}.{table}")
rows = table.scan().to_arrow()
docs = {{field.name: field.doc for field in table.schema().fields}}""",
    "lance": """import lance

table = lance.dataset("{out}/{table}.lance")
rows = table.to_table()
docs = {{field.name: field.metadata[b"description"].decode() for field in table.schema}}""",
}
MOVED = {
    "delta": "The folder of a table may be moved.",
    "iceberg": "Iceberg names files by absolute paths: the table is where it was written, in {out}. To move it, export it there.",
    "lance": "The folder of a table may be moved.",
}
SAFETENSORS = """from safetensors.numpy import load_file

arrays = load_file("{path}")
row = 0
ids = arrays["ids"][arrays["starts"][row] : arrays["starts"][row + 1]]
labels = ids.copy()
labels[: arrays["target_start"][row]] = -100  # what trainers of Hugging Face do not learn"""
NUMPY = """import json
import numpy

path = "{path}"
with open(path, "rb") as file:
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
kinds = {{"I64": "<i8", "I32": "<i4", "F32": "<f4", "U8": "u1", "BOOL": "?"}}
data = numpy.memmap(path, "u1", "r", 8 + size)  # nothing is read yet
arrays = {{
    name: data[slice(*each["data_offsets"])].view(kinds[each["dtype"]])
    for name, each in header.items()
    if name != "__metadata__"
}}"""


def of_tables(export: DataExport, out: str, tables: Mapping[str, Sequence[str]]) -> str:
    """Return the README of `tables`, table -> its splits, in the folder `out`."""
    first = next(iter(tables))
    code = OPENED[export.format].format(out=out, name=export.contract, table=first, catalogue=CATALOGUE)
    lines = [*_head(export), _python(code), "", MOVED[export.format].format(out=out)]
    for table, splits in tables.items():
        lines += ["", f"## {table}", "", f"{text_of(table)} Splits, in the column `split`: {', '.join(splits)}.", ""]
        lines.append(columns_as_markdown(table))
    return "\n".join([*lines, ""])


def of_arrays(export: DataExport, out: str, files: Mapping[str, Mapping[str, int]], held: Sequence[str]) -> str:
    """Return the README of the arrays `held` in the folder `out`; `files`: key of a tokenizer -> name of a file -> its rows."""
    key, names = next(iter(files.items()))
    path = f"{out}/{key}/{next(iter(names))}.safetensors"
    lines = [
        *_head(export), "With Safetensors:", "", _python(SAFETENSORS.format(path=path)), "", "With NumPy alone:", "",
        _python(NUMPY.format(path=path)), "",
        "Beside each file are, in `.parquet` and in the same order, the ids and the origin of its rows. The examples are the same "
        "in the folder of each tokenizer, whose files are in its `tokenizer`. Rows in which personal data was found are left out: "
        "ids cannot be replaced like a text.", "",
        "| array | |", "|---|---|", *(f"| `{name}` | {DOCS[name]} |" for name in held), "",
        "R rows, N tokens, S spans, A tokens of answers, M target tokens, E entries. What is not listed, no row of this export "
        "has.", "",
    ]  # fmt: skip
    for key, names in files.items():
        lines += [f"## {key}", "", "| file | rows |", "|---|---|"]
        lines += [f"| {key}/{name}.safetensors | {rows} |" for name, rows in names.items()]
        lines.append("")
    return "\n".join(lines)


def _head(export: DataExport) -> list[str]:
    rows = ", ".join(f"{count} {split}" for split, count in export.rows.items())
    return [
        f"# {export.contract}: {export.format}", "",
        f"Training data of the dataset `{export.dataset}`, written by `rayleigh export` on {export.created}: {rows}. `export.json` "
        f"counts what left and what did not, by licence and source.", "",
    ]  # fmt: skip


def _python(code: str) -> str:
    return f"```python\n{code}\n```"
