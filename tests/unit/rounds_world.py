"""Rounds without Ray and without models: real planning, prompts, promotion and resumption; a student that is right on the layers of
which it has seen enough prompts stands in for teaching and training."""

import json
import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import made_run

from engine.inference.token_budget import TEACHER_TOKENS, TokenBudget, TokenUsage
from engine.records.report import Holdout, ModelEntry, Report
from engine.release.gate import decide
from engine.rows import CANDIDATE, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, from_rows
from engine.storage.artifact import RowCounts
from jobs.commands import iterate
from jobs.pipeline import pipeline

YAML = """
name: toy
specialist: {goal: count, task_units: [{name: count, kind: decision}]}
prompts:
  sources: [{path: seeds.jsonl, licence: CC0-1.0, columns: {text: input, layer: layer}, take: 12}]
  holdout: {path: holdout.jsonl, labels: rule, columns: {text: input, layer: layer, reference: reference}}
  redact: [email]
teachers: {mode: direct, models: [{name: t, model: {type: fake}}]}
judges: {}
curation: {semantic: null}
students: [{name: small, init: {prune: {source: model, layers: [0]}}}]
evaluation: {bootstrap: 100}
gate: {exact_match: 0.5, by: point}
iterate: {prompts: 10, rows: 4, heed: []}
"""
ENOUGH = 8
"""Prompts of a layer with which the student gets it right."""
PROFILE = "{name: toy, ray: {address: none}}"
DIES = Path("dies")


def mail(number: int) -> str:
    """Return a text that shares no three words with another."""
    rng = random.Random(number)
    return " ".join(f"w{rng.randrange(10**6)}" for _ in range(12))


def write(folder: Path, *, contract: str = YAML) -> None:
    """Write contract, profile, 60 seeds of which every third is a failure mode, and 24 holdout prompts."""
    layers = ("core", "long_tail", "failure_mode")
    seeds = [{"input": mail(number), "layer": layers[number % 3]} for number in range(60)]
    held = [{"input": mail(1000 + number), "layer": layers[number % 3], "reference": "1"} for number in range(24)]
    seeds.insert(2, {"input": held[2]["input"], "layer": "failure_mode"})  # of the holdout; the first round does not take it
    for name, rows in (("seeds", seeds), ("holdout", held)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "toy.yaml").write_text(contract)
    (folder / "profile.yaml").write_text(PROFILE)


def stand_in(monkeypatch) -> None:
    """Let the jobs after `prompts` be done by this module, in this process."""

    def toys(contract):
        done = {"candidates": "candidates", "dataset": "dataset", "students/small": "student", "reports": "reports"}
        return tuple(
            replace(job, run=f"rounds_world:{done[job.name]}", usable="", inputs="", derived=()) if job.name in done else job
            for job in pipeline(contract)
            if job.name != "tokens"
        )

    def without_tokens(contract):
        return tuple(replace(job, needs=tuple(need for need in job.needs if need != "tokens")) for job in toys(contract))

    monkeypatch.setattr(iterate, "pipeline", without_tokens)
    monkeypatch.setattr(iterate, "job_session", lambda work, console, jobs, at_once: _saved(work))


def _saved(work):
    work.save()
    return nullcontext()


def _prompts(context):
    return context.artifact("prompts").read("prompts", PROMPT).to_pylist()


def candidates(context):
    """Answer each prompt; what the shared ledger has is not paid again."""
    paid = json.loads(context.paid.read("paid.json")) if context.paid.exists("paid.json") else []
    new = [row["prompt_id"] for row in _prompts(context) if row["prompt_id"] not in paid]
    context.paid.write("paid.json", json.dumps([*paid, *new]).encode())
    TokenBudget(context.ledger / TEACHER_TOKENS, None).add("t", TokenUsage(len(new), 10 * len(new), 0))
    said = {
        "teacher": "t",
        "answer": "1",
        "finish_reason": "stop",
        "tokens_in": 10,
        "tokens_out": 0,
        "pool": "train",
        "reasons": [],
    }
    rows = [{**row, **said, "answer_id": row["prompt_id"], "sample": 0} for row in _prompts(context)]
    context.writer.put("candidates", from_rows(rows, CANDIDATE), CANDIDATE)
    context.writer.metrics = {"teachers": {"t": {"answers": len(rows), "tokens_in": 10 * len(rows), "accepted": len(rows)}}}
    return RowCounts(len(rows), {"train": len(rows)})


def dataset(context):
    """Make an example of each answer."""
    rows = [
        {**row, "cluster": 0, "dropped_by": "", "duplicate_of": ""}
        for row in context.artifact("candidates").read("candidates", CANDIDATE).to_pylist()
    ]
    context.writer.put("picked", from_rows(rows, PICKED), PICKED)
    holdout = context.artifact("prompts").table("holdout").digest
    clean = {"holdout": holdout, "files": {}, "checked": 1, "lists": {"holdout": 1}, "removed": [], "closest": []}
    context.writer.metrics = {"picked": {"t": len(rows)}, "decontamination": clean}
    more = {"target": "1", "final": "1", "weight": 1.0, "split": "train"}
    context.writer.put("examples", from_rows([{**row, **more, "example_id": row["answer_id"]} for row in rows], EXAMPLE), EXAMPLE)
    return RowCounts(len(rows), {"kept": len(rows)})


def student(context):
    """Train, or die if there is a file that says so."""
    if (Path(context.root) / DIES).exists():
        raise KeyboardInterrupt
    return made_run._student(context)


def reports(context):
    """Evaluate: the student is wrong on the layers of which it has seen too little, the teacher on the first prompt."""
    layers = [row["layer"] for row in _prompts(context)]
    held = context.artifact("prompts").read("holdout", HOLDOUT).to_pylist()
    right = {
        "t": [number > 0 for number in range(len(held))],
        "small": [layers.count(row["layer"]) >= ENOUGH for row in held],
    }
    rows = [
        {**row, "model": name, "role": role, "exact": ok, "answer": "1" if ok else f"wrong {name}"}
        for name, role in (("t", "teacher"), ("small", "student"))
        for row, ok in zip(held, right[name], strict=True)
    ]
    context.writer.put("predictions", from_rows(rows, PREDICTION), PREDICTION)
    models = [_entry("t", "teacher", right["t"]), _entry("small", "student", right["small"])]
    gate = decide(models, context.contract.gate)
    numbers = Report(run=str(context.run), contract="toy", holdout=Holdout(rows=len(held)), models=tuple(models), gate=gate)
    context.writer.folder.write("report.json", numbers.model_dump_json().encode())
    context.writer.folder.write("contract.json", context.contract.model_dump_json().encode())
    return RowCounts(len(rows), {"stop": len(rows)})


def _entry(name, role, right):
    share = sum(right) / len(right)
    exact = {"value": share, "low": max(0.0, share - 0.1), "high": min(1.0, share + 0.1), "n": len(right)}
    against = {"teacher": "t", "retention": exact} if role == "student" else None
    found = {"name": name, "role": role, "parameters": 10, "metrics": {"exact_match": exact}, "against_teacher": against}
    found |= {"tests": {"champion": {"p_pass": 0.0}}}  # nothing to compare with
    return ModelEntry.model_validate(found)
