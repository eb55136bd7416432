"""A contract and artifacts small enough to look through, for the jobs that handle rows without asking a model."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.records.record import Identity
from engine.rows import CANDIDATE, HOLDOUT, PROMPT, content_id, from_rows
from engine.runs.job import Job, JobContext, run_job
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, rows_digest, table_of, write_shard
from jobs.pipeline import pipeline

CONTRACT: dict[str, Any] = {
    "name": "small",
    "specialist": {"goal": "g", "task_units": [{"name": "order", "kind": "extraction", "instruction": "Fill in.",
                   "output": {"json_schema": {"properties": {"product": {}, "quantity": {}}}}}]},
    "prompts": {"sources": [{"path": "seeds.jsonl", "licence": "CC0-1.0"}], "holdout": {"path": "holdout.jsonl", "labels": "rule"}},
    "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}}]},
    "judges": {},
    "students": [{"name": "s", "init": {"prune": {"source": "x", "layers": [0]}}}],
    "gate": {},
}  # fmt: skip
PROFILE = Profile.model_validate({"name": "test", "cpu": {"actors": 2, "cpus": 0.5}, "embedder": {"batch": 16}})

PRODUCTS = ("blue hand mirrors", "oak book shelves", "steel water bottles", "wool blankets", "garden hoses", "desk lamps")
OPENINGS = (
    "Good morning, could you send {n} {p} to our shop in Cork before the end of the month?",
    "We have run out of {p}. Please put us down for another {n}, the van can take them on Friday.",
    "Regarding my call yesterday: yes, {n} {p}, and kindly leave the parcel with the neighbour.",
    "My daughter is getting married and we want {p} on each of the tables, so {n} in all.",
    "The {p} were broken when they came. I do not want new ones, I want my money back. There were {n}.",
)
WORDS = "amber birch cedar delta ember falcon glacier harbour island juniper kestrel lagoon meadow nettle orchid".split()


def contract(**sections: Any) -> Contract:
    """Return the small contract with whole sections replaced."""
    return Contract.model_validate({**CONTRACT, **sections})


def context(folder: Path, name: str, order: Contract, *, models: str = "models") -> JobContext:
    """Return the bench of the job `name` in `folder`/run."""
    run = Folder(str(folder / "run"))
    job: Job = next(job for job in pipeline(order) if job.name == name)
    return JobContext(
        job=job, contract=order, profile=PROFILE, root=str(folder), models=models, run=run, writer=ArtifactWriter(run / name)
    )


def run(folder: Path, name: str, order: Contract, **more: str) -> Artifact:
    """Run one job and return what it made."""
    return run_job(context(folder, name, order, **more))


def mails(count: int) -> list[str]:
    """Return `count` different mails."""
    rng = random.Random(7)
    found: dict[str, None] = {}
    while len(found) < count:
        asked = rng.choice(OPENINGS).format(n=rng.randrange(2, 400), p=rng.choice(PRODUCTS))
        found[f"{asked} Signed for {' '.join(rng.choices(WORDS, k=6))}"] = None
    return list(found)


def write_jsonl(path: Path, rows: list[Any]) -> None:
    """Write one row a line; bytes and strings as they are."""
    lines = [row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write `rows` as one Parquet file."""
    pq.write_table(pa.Table.from_pylist(rows), path)


def prompt_row(text: str) -> dict[str, Any]:
    """Return a row of PROMPT that asks `text`."""
    row = dict.fromkeys(PROMPT.names, "")
    more = {"line": 1, "redacted": [], "parent_id": None, "layer": "core", "difficulty": "easy", "task_unit": "order"}
    turns = [{"role": "user", "content": text}]
    return row | more | {"prompt_id": content_id(text), "text": text, "messages": turns, "scenario": text.split()[0]}


def candidate_rows(texts: list[str]) -> list[dict[str, Any]]:
    """Return two answers to each text, of which the second is surer; every seventh text is failed at."""
    rows = []
    for number, text in enumerate(texts):
        for sample in range(2):
            row = dict.fromkeys(CANDIDATE.names) | prompt_row(text)
            row |= {"answer_id": content_id(text, sample), "teacher": "t", "sample": sample, "finish_reason": "stop", "reasons": []}
            row |= {"answer": json.dumps({"quantity": "3", "product": None if number % 5 else "lamps"}), "agreement": 1.0}
            row |= {"confidence": 0.5 + sample / 4, "pool": "failure" if number % 7 == 6 else "train", "checks": []}
            rows.append(row)
    return rows


def put(folder: Path, name: str, **tables: tuple[list[dict[str, Any]], pa.Schema, int]) -> None:
    """Write a finished artifact; each table is (rows, schema, rows of a shard)."""
    writer = ArtifactWriter(Folder(str(folder / "run" / name)))
    total = 0
    for title, (rows, schema, shard_rows) in tables.items():
        table = from_rows(rows, schema)
        pieces = [table.slice(start, shard_rows) for start in range(0, len(rows), shard_rows)]
        shards = [write_shard(writer.folder / title, piece, schema) for piece in pieces]
        writer.tables[title] = table_of(shards, hex_digest(rows_digest(table)))
        total += len(rows)
    writer.finish(Identity(name, {}, {}, "0"), RowCounts(total, {"rows": total}))


def put_inputs(folder: Path, rows: list[dict[str, Any]], holdout: list[str], *, shard_rows: int) -> None:
    """Write the artifacts that the job `dataset` needs."""
    put(folder, "prompts", holdout=([prompt_row(text) | {"reference": "{}"} for text in holdout], HOLDOUT, 100))
    put(folder, "candidates", candidates=(rows, CANDIDATE, shard_rows))
