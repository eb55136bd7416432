"""What persons said of the answers of a run, as `rayleigh review import` keeps it beside the artifacts: one line an answer."""

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.curation.labels import LABEL, LABELS
from engine.errors import StorageError
from engine.rows import content_id
from engine.runs.job import JobContext
from engine.storage.shards import Folder, iterate
from jobs.steps import evaluation_lists

PLACE, NAME = "review", "labels.jsonl"

Labels = dict[str, dict[str, str]]
"""answer_id -> LABEL row."""


def read(run: Folder) -> Labels:
    """Return the labels of a run.

    Raises:
        StorageError: the file is damaged.
    """
    if not run.exists(f"{PLACE}/{NAME}"):
        return {}
    try:
        rows = [json.loads(line) for line in run.read(f"{PLACE}/{NAME}").splitlines()]
        return {row["answer_id"]: {name: row[name] for name in LABEL.names} for row in rows}
    except (ValueError, KeyError) as error:
        raise StorageError(f"{run}/{PLACE}/{NAME}: is damaged: {error}. Delete it and import the labels again.") from None


def write(run: Folder, labels: Labels) -> None:
    """Keep `labels` as those of a run, whole or not at all."""
    lines = [json.dumps(labels[key], ensure_ascii=False) for key in sorted(labels)]
    run.write(f"{PLACE}/{NAME}", "".join(f"{line}\n" for line in lines).encode())


def table(context: JobContext) -> pa.Table:
    """Return the labels of answers that are among the candidates as labels.LABEL, in the order of their ids."""
    found = read(context.run)
    if not found:
        return LABEL.empty_table()
    whole = pa.Table.from_pylist([found[key] for key in sorted(found)], schema=LABEL)
    candidates = context.artifact("candidates")
    is_there = pa.array([False] * whole.num_rows)
    for piece in iterate(candidates.folder / "candidates", candidates.table("candidates"), ["answer_id"]):
        is_there = pc.or_(is_there, pc.is_in(whole["answer_id"], piece["answer_id"].combine_chunks()))
    return whole.filter(is_there)


def counts(labelled: pa.Table) -> dict[str, int]:
    """Return label -> answers."""
    found = Counter(labelled["label"].to_pylist())
    return {label: found[label] for label in LABELS}


def inputs(context: JobContext) -> dict[str, Any]:
    """Return what identifies evaluation lists and labels, so that a change of either is named as drift; labels only if there are
    some."""
    found = read(context.run)
    said = {f"{PLACE}/{NAME}": content_id(json.dumps(found, sort_keys=True))} if found else {}
    return {**evaluation_lists.of_job(context), **said}
