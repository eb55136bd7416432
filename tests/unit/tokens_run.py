"""The run of `threshold_runs` with the artifact `tokens` of the real job, and with a capture whose distributions are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from threshold_runs import threshold_run

from engine.capture.compact import entries, pack
from engine.capture.schemas import CAPTURE, VOCABULARY
from engine.contract.contract import Contract
from engine.inference.chat_template import load_tokenizer
from engine.inference.scoring import Distribution
from engine.inference.token_bytes import special_ids, token_bytes
from engine.records.capture import CaptureMetrics
from engine.records.tokens import TokensMetrics
from engine.rows import TOKENS, from_rows
from engine.runs.job import JobContext, run_job
from engine.runs.recipe import identify
from engine.storage.artifact import Artifact, RowCounts
from engine.students.init.tokenizer import fetch
from jobs.pipeline import pipeline
from jobs.workspace import Workspace
from tests.small_tokenizer import template, write

OWN, OTHER = 0.75, 0.125
"""Probability of each target token, and of token 5; the rest is tail."""
MEASURED = {
    "examples": 1, "masked": 0, "target_tokens": 1, "tokens_read": 1, "agreement": 1.0, "mean_k": 1.0, "mean_tail": 0.0,
    "bytes_per_token": 1.0,
}  # fmt: skip


def tokens_run(folder: str, seeds: Path, *, captured: bool = True) -> Workspace:
    """Write the run into `folder`; `captured`: with the artifact `capture`."""
    work = threshold_run(folder, seeds, 0.3)
    write(seeds / "model", template())
    if captured:
        raw = work.contract.model_dump(mode="json") | {"capture": {"constraint": "none"}}
        work = replace(work, contract=Contract.model_validate(raw))
        work.save()
    tokens = run_job(_context(work, "tokens"))
    if captured:
        context = _context(work, "capture")
        context.writer.clear()
        context.writer.finish(identify(context), _capture(context, tokens))
    return work


def _context(work: Workspace, name: str) -> JobContext:
    job = next(job for job in pipeline(work.contract) if job.name == name)
    return work.context(job, log=lambda text: None, progress=lambda text: None)


def _capture(context: JobContext, tokens: Artifact) -> RowCounts:
    [summary] = tokens.metrics(TokensMetrics).tokenizers
    tokenizer = load_tokenizer(fetch(tokens, summary.key, Path(context.writer.folder.path) / "tokenizer"))
    context.writer.folder.remove("tokenizer")
    same = {"teacher": "t", "finish_reason": "stop", "error": "", "masked": False, "tokens": 1, "tokens_in": 1}
    rows = [
        {**same, "example_id": row["example_id"], **pack(entries(_distribution(row["ids"][row["target_start"] :])))}
        for row in tokens.read(f"examples_{summary.key}", TOKENS).to_pylist()
    ]
    special, end = special_ids(tokenizer), tokenizer.eos_token_id
    words = [
        {"teacher": "t", "id": at, "text": text, "special": at in special, "ends": at == end}
        for at, text in enumerate(token_bytes(tokenizer))
    ]
    context.writer.put("captured", from_rows(rows, CAPTURE), CAPTURE)
    context.writer.put("vocabulary", from_rows(words, VOCABULARY), VOCABULARY)
    teachers = {"t": MEASURED}
    context.writer.metrics = CaptureMetrics.model_validate(
        {"constraint": "none", "gate": "none", "teachers": teachers, "tokens_paid": 0}
    )
    return RowCounts(len(rows), {"captured": len(rows)})


def _distribution(target: list[int]) -> Distribution:
    tokens = np.array(target, np.int32)
    ids = np.stack([tokens, np.full_like(tokens, 5)], axis=1)
    logs = np.log(np.tile(np.array([OWN, OTHER], np.float32), (len(tokens), 1)))
    rest = np.full(len(tokens), np.log(1 - OWN - OTHER), np.float32)
    return Distribution(tokens, ids, logs, logs[:, 0], rest, 1)
