"""The labels of persons, which `rayleigh review import` stores in the run folder: one line an answer."""

import json
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from engine.curation.labels import LABEL, LABELS
from engine.errors import StorageError
from engine.rows import content_id
from engine.runs.job import JobContext
from engine.storage.folder import Folder
from engine.storage.shards import iterate
from jobs.steps import evaluation_lists

FILE = "review/labels.jsonl"

Labels = dict[str, dict[str, str]]
"""answer_id -> LABEL row."""


def read(run: Folder) -> Labels:
    """Return the labels of a run.

    Raises:
        StorageError: the file is damaged.
    """
    if not run.exists(FILE):
        return {}
    try:
        rows = [json.loads(line) for line in run.read(FILE).splitlines()]
        return {row["answer_id"]: {name: row[name] for name in LABEL.names} for row in rows}
    except (ValueError, KeyError) as error:
        raise StorageError(f"{run}/{FILE}: is damaged: {error}. Delete it and import the labels again.") from None


def write(run: Folder, labels: Labels) -> None:
    """Store `labels` as those of a run, atomically."""
    lines = [json.dumps(labels[key], ensure_ascii=False) for key in sorted(labels)]
    run.write(FILE, "".join(f"{line}\n" for line in lines).encode())


def table(context: JobContext) -> pa.Table:
    """Return LABEL of the candidates, in the order of their ids; labels of other answers are left out."""
    labels = read(context.run)
    if not labels:
        return LABEL.empty_table()
    every = pa.Table.from_pylist([labels[key] for key in sorted(labels)], schema=LABEL)
    candidates = context.artifact("candidates")
    is_candidate = pa.array([False] * every.num_rows)
    for piece in iterate(candidates.folder / "candidates", candidates.table("candidates"), ["answer_id"]):
        is_candidate = pc.or_(is_candidate, pc.is_in(every["answer_id"], piece["answer_id"].combine_chunks()))
    return every.filter(is_candidate)


def counts(labelled: pa.Table) -> dict[str, int]:
    """Return label -> answers."""
    number = Counter(labelled["label"].to_pylist())
    return {label: number[label] for label in LABELS}


def inputs(context: JobContext) -> dict[str, str]:
    """Return file -> hash of the evaluation lists and of the labels, if there are any: inputs of the dataset."""
    labels = read(context.run)
    of_labels = {FILE: content_id(json.dumps(labels, sort_keys=True))} if labels else {}
    return {**evaluation_lists.of_job(context), **of_labels}
