"""Labels that a person gives on the page: the only write, and by the code of `rayleigh review import`."""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

from engine.curation.labels import LABELS
from engine.errors import InputError
from engine.rows import Row
from engine.storage.folder import Folder
from jobs.commands import review
from jobs.steps import labels
from jobs.view.sources import Open

TABLES = ("candidates", "picked")
MOST_BYTES = 65_536  # of a form


class Form(NamedTuple):
    """What the form of a label shows."""

    answer_id: str
    table: str
    label: str
    """The label that the answer has; "" = none."""
    correction: str
    drops_dataset: bool
    """Whether a finished dataset, which was made without the label, would be removed."""


def form(opened: Open, row: Row) -> Form:
    """Return the form for an answer."""
    stored = labels.read(Folder(opened.run.folder)).get(row["answer_id"], {"label": "", "correction": ""})
    table = "candidates"
    return Form(row["answer_id"], table, stored["label"], stored["correction"], "dataset" in opened.artifacts)


def store(opened: Open, body: bytes) -> tuple[str, str]:
    """Store the label of a form that was sent; return the answer's id and the table in which it is shown again.

    A dataset that was made without the label is removed, as `rayleigh review import` does; the next `rayleigh run` makes it again.

    Raises:
        InputError: the form is too large or not complete, the label is unknown, or the correction does not fit the schema.
    """
    if len(body) > MOST_BYTES:
        raise InputError(f"label: found more than {MOST_BYTES} bytes, so it was not stored.")
    fields = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()}
    answer_id, label = fields.get("answer_id", ""), fields.get("label", "")
    if label not in LABELS:
        raise InputError(f"label: found {label!r}, expected one of {', '.join(LABELS)}.")
    if "dataset" in opened.artifacts and fields.get("agreed") != "1":
        raise InputError(
            "label: not stored, as the box was not ticked: the dataset of this run is removed and has to be made again."
        )
    correction = fields.get("correction", "").replace("\r\n", "\n").strip() if label == "corrected" else ""
    row = {"answer_id": answer_id, "label": label, "correction": correction}
    with tempfile.TemporaryDirectory(prefix="rayleigh-label-") as scratch:
        file = Path(scratch, "label.jsonl")
        file.write_text(json.dumps(row) + "\n", encoding="utf-8")
        review.import_(opened.run.folder, str(file))
    return answer_id, "candidates"
