"""Finished runs, made without Ray, that differ in one threshold: what is accepted, learnt and measured follows from it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from made_run import ASKED, YAML, workspace

from engine.contract.contract import Contract
from engine.inference import spending
from engine.records.report import Holdout, ModelEntry, Report
from engine.release.gate import decide
from engine.rows import CANDIDATE, DROPPED_PROMPT, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, REJECT, STEP, from_rows
from engine.runs.job import JobContext
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs.pipeline import pipeline
from jobs.workspace import Workspace

NASTY = "<script>alert(1)</script> | =1+1 <img src=x onerror=alert(2)> mail ann@example.org"
PROMPTS = [
    {**ASKED, "prompt_id": f"{number:08x}", "text": f"text {number} {NASTY if number == 1 else ''}", "line": number + 1,
     "messages": [{"role": "user", "content": f"text {number} {NASTY if number == 1 else ''}"}],
     "layer": ("core", "long_tail")[number % 2], "licence": "MIT" if number % 4 == 0 else "CC0-1.0", "language": "en"}
    for number in range(40)
]  # fmt: skip
HELD = [
    {**ASKED, "prompt_id": f"{number:08x}", "line": number + 1, "reference": str(number), "scenario": f"kind {number % 30}"}
    for number in range(1000, 1120)
]
CONFIDENCES = {(number, sample): (number * 37 + sample * 11) % 100 / 100 for number in range(40) for sample in range(2)}
MODELS = ("t", "small", "large")


def threshold_run(folder: str, seeds: Path, confidence: float, *, other: str = "") -> Workspace:
    """Write a finished run into `folder` that accepts answers from `confidence` on; `other`: added to the answer to one prompt."""
    work = workspace(folder, seeds)
    raw: dict[str, Any] = yaml.safe_load(YAML) | {"judges": {"accept": {"confidence": confidence}}}
    work = replace(work, contract=Contract.model_validate(raw))
    work.save()
    candidates = [_answer(number, sample, confidence, other) for number, sample in CONFIDENCES]
    picked = _picked(candidates)
    kept = [row for row in picked if not row["dropped_by"]]
    builds: dict[str, Callable[[JobContext], RowCounts]] = {
        "prompts": _prompts,
        "candidates": partial(_candidates, candidates),
        "dataset": partial(_dataset, picked),
        "students/small": partial(_student, kept),
        "students/large": partial(_student, kept),
        "reports": partial(_reports, len(kept)),
    }
    jobs = {job.name: job for job in pipeline(work.contract)}
    for name, build in builds.items():
        context = work.context(jobs[name], log=lambda text: None, progress=lambda text: None)
        context.writer.clear()
        context.writer.finish(identify(context), build(context))
    return work


def _answer(number: int, sample: int, threshold: float, other: str) -> dict[str, Any]:
    sure = CONFIDENCES[number, sample]
    accepted = sure >= threshold
    return {
        **PROMPTS[number], "answer_id": f"a{number:04x}{sample}", "teacher": "t", "sample": sample, "finish_reason": "stop",
        "answer": f"{number}{ {1: NASTY, 5: other, 7: sample}.get(number, '')}", "tokens_in": 10, "tokens_out": 2,
        "seconds": 0.5, "confidence": sure, "pool": "train" if accepted else "review", "judge": "j",
        "reasons": ["accepted"] if accepted else ["low_confidence"],
    }  # fmt: skip


def _picked(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    taken: set[str] = set()
    rows = []
    for row in candidates:
        why = "pool" if row["pool"] != "train" else "sample" if row["prompt_id"] in taken else ""
        taken |= {row["prompt_id"]} if not why else set()
        rows.append({**row, "cluster": 0, "dropped_by": why, "duplicate_of": ""})
    return rows


def _prompts(context: JobContext) -> RowCounts:
    for name, rows, schema in (("prompts", PROMPTS, PROMPT), ("holdout", HELD, HOLDOUT)):
        context.writer.put(name, from_rows(rows, schema), schema)
    context.writer.put("dropped", DROPPED_PROMPT.empty_table(), DROPPED_PROMPT)
    context.writer.put("rejects", REJECT.empty_table(), REJECT)
    return RowCounts(len(PROMPTS) + len(HELD), {"prompts": len(PROMPTS), "holdout": len(HELD)})


def _candidates(candidates: list[dict[str, Any]], context: JobContext) -> RowCounts:
    table = from_rows(candidates, CANDIDATE)
    context.writer.put("candidates", table, CANDIDATE)
    totals = spending.teacher_totals([table])
    context.writer.metrics = {"teachers": {name: {**one._asdict(), "machine_seconds": one.seconds} for name, one in totals.items()}}
    pools = [row["pool"] for row in candidates]
    return RowCounts(len(pools), {pool: pools.count(pool) for pool in ("train", "review")})


def _dataset(picked: list[dict[str, Any]], context: JobContext) -> RowCounts:
    context.writer.put("picked", from_rows(picked, PICKED), PICKED)
    kept = [row for row in picked if not row["dropped_by"]]
    context.writer.metrics = {"picked": {"t": len(kept)}}
    examples = [
        {**row, "example_id": row["answer_id"], "target": row["answer"], "final": row["answer"], "weight": 1.0, "kind": "answer",
         "split": "validation" if int(row["prompt_id"], 16) % 10 == 0 else "train"}
        for row in kept
    ]  # fmt: skip
    context.writer.put("examples", from_rows(examples, EXAMPLE), EXAMPLE)
    whys = [row["dropped_by"] or "picked" for row in picked]
    return RowCounts(len(whys), {why: whys.count(why) for why in ("picked", "pool", "sample")})


def _student(kept: list[dict[str, Any]], context: JobContext) -> RowCounts:
    name = context.job.name.partition("/")[2]
    context.writer.put("steps", from_rows([{"student": name, "step": 1, "split": "train", "loss": 1.0, "tokens": 1}], STEP), STEP)
    context.writer.folder.write("model/config.json", f"[{len(kept)}]".encode())
    context.writer.metrics = {"parameters": 10, "steps": 1}
    return RowCounts(len(kept), {"trained": len(kept)})


def right(model: str, number: int, examples: int) -> bool:
    """Return whether a model answers holdout prompt `number` rightly; students know less if they learnt from fewer examples."""
    return model == "t" or number % 40 < examples - (0 if model == "large" else 8)


def _reports(examples: int, context: JobContext) -> RowCounts:
    rows, models = [], []
    for model in MODELS:
        role = "teacher" if model == "t" else "student"
        exact = [right(model, number, examples) for number in range(len(HELD))]
        rows += [
            {**held, "model": model, "role": role, "exact": is_right, "seen": True, "valid": True,
             "confidence": 0.9 if is_right else 0.4,
             "answer": held["reference"] if is_right else "?", "finish_reason": "stop"}
            for held, is_right in zip(HELD, exact, strict=True)
        ]  # fmt: skip
        share = sum(exact) / len(exact)
        estimate = {"value": share, "low": share - 0.05, "high": share + 0.05, "n": len(exact)}
        models.append(
            ModelEntry.model_validate({"name": model, "role": role, "metrics": {"exact_match": estimate}, "parameters": 7})
        )
    report = Report(
        run=str(context.run), contract="toy", holdout=Holdout(rows=len(HELD)), models=tuple(models),
        gate=decide(models, context.contract.gate),
    )  # fmt: skip
    context.writer.folder.write("report.json", report.model_dump_json().encode())
    context.writer.put("predictions", from_rows(rows, PREDICTION), PREDICTION)
    return RowCounts(len(rows), {"stop": len(rows)})
