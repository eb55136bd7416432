"""Files of `rayleigh review`: CSV for a spreadsheet, JSONL, and a dataset in the folder format of Argilla.

The folder is the one that `rg.Dataset.from_disk` of argilla 2 reads and `to_disk` writes (`datasets/_io/_disk.py`,
`records/_resource.py` `Record.to_dict`): `.argilla/dataset.json`, `.argilla/settings.json` and `records.json`.

A spreadsheet reads a cell that begins with = + - @, a tab or a return as a formula (OWASP, "CSV injection"). Such a cell is written
with an apostrophe in front, which is removed on reading.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.curation.labels import LABELS
from engine.errors import InputError
from engine.readers import formats
from engine.readers.paths import format_of
from engine.rows import Row

COLUMNS = (
    "answer_id", "prompt_id", "task_unit", "pool", "reasons", "faults", "teacher", "confidence", "input", "answer", "label",
    "correction",
)  # fmt: skip
FORMULA = re.compile(r"'*[=+\-@\t\r]")
ESCAPED = re.compile(r"'+[=+\-@\t\r]")
GUIDELINES = "Is the answer right for this input? If it is not, write the right one below if you can, in the same form."


def write_csv(path: Path, rows: Iterable[Row]) -> int:
    """Write `rows`, which have COLUMNS, and return how many."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        return _each(rows, lambda row: table.writerow({name: safe(str(row[name])) for name in COLUMNS}))


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Write one row a line, and return how many."""
    with path.open("w", encoding="utf-8") as file:
        return _each(rows, lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n"))


def write_argilla(path: Path, rows: Iterable[Row]) -> int:
    """Write a dataset that `rg.Dataset.from_disk` reads into the new folder `path`, and return how many records."""
    (path / ".argilla").mkdir(parents=True)
    name = re.sub(r"[^a-z0-9_-]", "-", path.name.lower()).strip("-_") or "review"
    (path / ".argilla" / "dataset.json").write_text(json.dumps({"name": name}))
    (path / ".argilla" / "settings.json").write_text(json.dumps(_settings(), indent=1))
    with (path / "records.json").open("w", encoding="utf-8") as file:
        separators = iter(["[\n"])
        count = _each(rows, lambda row: file.write(next(separators, ",\n") + json.dumps(_record(row), ensure_ascii=False)))
        file.write("\n]\n" if count else "[]\n")
    return count


WRITERS: dict[str, Callable[[Path, Iterable[Row]], int]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "gold": write_jsonl,
    "argilla": write_argilla,
}


def read(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (position, row) of a file of labels: JSONL, CSV, TSV or Parquet, or Argilla's folder or `records.json`.

    Raises:
        InputError: the file does not exist or cannot be read, or a row of it.
    """
    file = path / "records.json" if path.is_dir() else path
    form = format_of(file.name)
    if form is None or not file.is_file():
        raise InputError(f"{path}: found no such file, expected a .csv or .jsonl file, or a folder of Argilla with records.json.")
    try:
        yield from _argilla(file) if form == "json" else _rows(file, is_sheet=form in ("csv", "tsv"))
    except ValueError as error:
        raise InputError(f"{file}: cannot be read: {error}. Export the answers again and label the new file.") from None


def _rows(path: Path, *, is_sheet: bool) -> Iterator[tuple[str, Row]]:
    for row in formats.read(str(path)):
        where = f"line {row.line}"
        if row.reason == "empty":  # a spreadsheet writes such rows
            continue
        if row.reason:
            raise ValueError(f"{where}: {row.detail}")
        fields = {name: unsafe(value) for name, value in row.fields.items() if isinstance(value, str)} if is_sheet else row.fields
        yield where, fields


def _argilla(path: Path) -> Iterator[tuple[str, Row]]:
    for number, item in enumerate(json.loads(path.read_text(encoding="utf-8")), start=1):
        record = _object(item)
        responses = record.get("responses", {})
        values = {name: {str(reply["value"]) for reply in responses.get(name, ())} for name in ("label", "correction")}
        if len(values["label"]) > 1:
            labels = sorted(values["label"])
            name = record.get("id")
            raise InputError(f"{path}, record {number}: found labels {labels} of {name}, expected one. Correct it in Argilla.")
        texts = {name: min(of_name, default="") for name, of_name in values.items()}
        yield f"record {number}", {"answer_id": record.get("id"), **texts}


def safe(text: str) -> str:
    """Return a cell that no spreadsheet reads as a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def unsafe(text: str) -> str:
    """Return the text of a cell that `safe` returned or a person wrote."""
    return text[1:] if ESCAPED.match(text) else text


def _object(value: Any) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"found {type(value).__name__}, expected an object for each answer")
    return value


def _each(rows: Iterable[Row], put: Callable[[Row], Any]) -> int:
    count = 0
    for row in rows:
        put(row)
        count += 1
    return count


def _settings() -> Row:
    options = [{"value": label, "text": label, "description": None} for label in LABELS]
    return {
        "guidelines": GUIDELINES,
        "allow_extra_metadata": True,
        "fields": [_text("input", required=True), _text("answer", required=True)],
        "questions": [
            {**_text("label", required=True), "settings": {"type": "label_selection", "options": options, "visible_options": None}},
            _text("correction", required=False),
        ],
        "vectors": [],
        "metadata": [
            {"name": name, "title": name, "visible_for_annotators": True, "settings": {"type": "terms", "values": None}}
            for name in ("task_unit", "pool", "reasons", "faults", "teacher")
        ],
    }


def _text(name: str, *, required: bool) -> Row:
    return {"name": name, "title": name, "required": required, "settings": {"type": "text", "use_markdown": False}}


def _record(row: Row) -> Row:
    suggestions = {name: {"value": row[name], "score": None, "agent": "person"} for name in ("label", "correction") if row[name]}
    metadata = {name: row[name] for name in ("task_unit", "pool", "reasons", "faults", "teacher") if row[name]}
    fields = {name: row[name] or " " for name in ("input", "answer")}  # a required field may not be empty
    return {
        "id": row["answer_id"],
        "fields": fields,
        "metadata": metadata,
        "suggestions": suggestions,
        "responses": {},
        "vectors": {},
    }
