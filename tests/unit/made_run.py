"""A small finished run, made without Ray: two prompts, three answers, two examples, a student with steps, a report."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.inference import spending
from engine.inference.token_budget import TEACHER_TOKENS, TokenBudget, TokenUsage
from engine.records.report import Holdout, ModelEntry, Report
from engine.release.gate import decide
from engine.rows import CANDIDATE, DROPPED_PROMPT, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, REJECT, STEP, from_rows
from engine.runs.job import JobContext
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from engine.storage.folder import Folder
from jobs.pipeline import pipeline
from jobs.workspace import Workspace

YAML = """
name: toy
specialist: {goal: count, task_units: [{name: count, kind: decision}]}
prompts:
  sources: [{path: seeds.jsonl, licence: CC0-1.0}]
  holdout: {path: holdout.jsonl, labels: rule}
teachers: {mode: direct, models: [{name: t, model: {type: fake}}]}
judges: {}
curation: {semantic: null}
students:
  - {name: small, init: {prune: {source: model, layers: [0]}}}
  - {name: large, init: {prune: {source: model, layers: [0, 1]}}}
gate: {exact_match: 0.5, by: point}
budget: {price: {currency: EUR, per_machine_hour: 3.6, tokens: {per_1m_in: 100, per_1m_out: 1000}}}
"""
ASKED = {
    "task_unit": "count", "messages": [{"role": "user", "content": "two apples"}], "text": "two apples", "layer": "core",
    "difficulty": "easy", "scenario": "plain", "language": "en", "source": "seeds.jsonl", "licence": "CC0-1.0", "redacted": [],
}  # fmt: skip
PROMPTS = [
    {**ASKED, "prompt_id": "aaaa1111", "line": 7},
    {**ASKED, "prompt_id": "bbbb2222", "text": "<b>[red]six[/red]</b>", "line": 9, "parent_id": "aaaa1111"},
]
HELD = [{**ASKED, "prompt_id": "cccc3333", "source": "holdout.jsonl", "line": 1, "reference": "2"}]
DROPPED = [{**ASKED, "prompt_id": "dddd4444", "line": 8, "dropped_by": "exact_copy", "duplicate_of": "aaaa1111", "similarity": 1.0}]
SAID = {"teacher": "t", "finish_reason": "stop", "tokens_in": 10, "tokens_out": 2, "seconds": 0.5}
WRONG = {"check": "grounded", "passed": False, "tag": "ungrounded", "detail": "3"}
ANSWERS = [
    {**PROMPTS[0], **SAID, "answer_id": "eeee5555", "answer": "2", "sample": 0, "pool": "train", "reasons": []},
    {
        **PROMPTS[0], **SAID, "answer_id": "eeee5566", "answer": "3", "sample": 1, "pool": "contrast", "reasons": ["ungrounded"],
        "checks": [WRONG],
    },
    {**PROMPTS[1], **SAID, "answer_id": "ffff6666", "answer": "6", "sample": 0, "pool": "train", "reasons": []},
]  # fmt: skip
FATES = {"eeee5555": ("", ""), "eeee5566": ("pool", ""), "ffff6666": ("", "")}


def made_run(folder: str, seeds: Path) -> Workspace:
    """Write seeds, contract and a finished run into `folder`, a local path or URL; jobs are finished by their own recipes."""
    work = workspace(folder, seeds)
    work.save()
    jobs = {job.name: job for job in pipeline(work.contract)}
    for name, build in (
        ("prompts", _prompts),
        ("candidates", _candidates),
        ("dataset", _dataset),
        ("students/small", _student),
        ("students/large", _student),
        ("reports", _reports),
    ):
        context = work.context(jobs[name], log=lambda text: None, progress=lambda text: None)
        context.writer.clear()
        context.writer.finish(identify(context), build(context))
    return work


def workspace(folder: str, seeds: Path) -> Workspace:
    """Write seeds and contract below `seeds`, and return the workspace of a run that has not begun."""
    import yaml

    seeds.mkdir(parents=True, exist_ok=True)
    (seeds / "seeds.jsonl").write_text('{"input": "two apples"}\n')
    (seeds / "holdout.jsonl").write_text('{"input": "two pears", "reference": "2"}\n')
    (seeds / "model").mkdir(exist_ok=True)
    (seeds / "model" / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 2}')
    (seeds / "toy.yaml").write_text(YAML)
    contract = Contract.model_validate(yaml.safe_load(YAML))
    return Workspace(
        folder=Folder(folder),
        contract=contract,
        contract_path=str(seeds / "toy.yaml"),
        root=str(seeds),
        profile=Profile(name="toy"),
        models=str(seeds / "models"),
    )


def _prompts(context: JobContext) -> RowCounts:
    context.writer.put("prompts", from_rows(PROMPTS, PROMPT), PROMPT)
    context.writer.put("holdout", from_rows(HELD, HOLDOUT), HOLDOUT)
    context.writer.put("dropped", from_rows(DROPPED, DROPPED_PROMPT), DROPPED_PROMPT)
    context.writer.put("rejects", REJECT.empty_table(), REJECT)
    return RowCounts(4, {"prompts": 2, "holdout": 1, "exact_copy": 1, "unreadable": 0})


def _candidates(context: JobContext) -> RowCounts:
    table = from_rows(ANSWERS, CANDIDATE)
    context.writer.put("candidates", table, CANDIDATE)
    accounts = {name: {**one._asdict(), "machine_seconds": one.seconds} for name, one in spending.teacher_totals([table]).items()}
    context.writer.metrics = {"teachers": accounts}
    TokenBudget(context.ledger / TEACHER_TOKENS, None).add("t", TokenUsage(4, 40, 8))  # one of the three answers was paid twice
    return RowCounts(3, {"train": 2, "contrast": 1})


def _dataset(context: JobContext) -> RowCounts:
    rows = [
        {**answer, "cluster": 0, "dropped_by": FATES[answer["answer_id"]][0], "duplicate_of": FATES[answer["answer_id"]][1]}
        for answer in ANSWERS
    ]
    context.writer.put("picked", from_rows(rows, PICKED), PICKED)
    kept = [row for row in rows if not row["dropped_by"]]
    clean = {
        "holdout": context.artifact("prompts").table("holdout").digest,
        "files": {},
        "checked": 3,
        "lists": {"holdout": 1},
        "removed": [],
        "closest": [],
    }
    context.writer.metrics = {"picked": {"t": len(kept)}, "decontamination": clean}
    examples = [
        {**row, "example_id": row["answer_id"], "target": row["answer"], "final": row["answer"], "weight": 1.0, "split": split}
        for row, split in zip(kept, ("train", "validation"), strict=True)
    ]
    context.writer.put("examples", pa.Table.from_pylist(examples, EXAMPLE), EXAMPLE)
    return RowCounts(3, {"kept": 2, "pool": 1})


def _student(context: JobContext) -> RowCounts:
    name = context.job.name.partition("/")[2]
    steps = [{"student": name, "step": number, "split": "train", "loss": 1.0 / number, "tokens": number} for number in (1, 2)]
    context.writer.put("steps", from_rows(steps, STEP), STEP)
    context.writer.folder.write("model/config.json", b"{}")
    context.writer.metrics = {"parameters": 10, "steps": 2}
    return RowCounts(2, {"trained": 1, "validation": 1, "too_long": 0})


def _reports(context: JobContext) -> RowCounts:
    models = [_entry("t", "teacher", 20), _entry("small", "student", 10, exact=0.75), _entry("large", "student", 15, exact=0.4)]
    holdout, gate = Holdout(rows=1, seen=0, unseen=1), decide(models, context.contract.gate)
    numbers = Report(run=str(context.run), contract="toy", holdout=holdout, models=tuple(models), gate=gate)
    context.writer.folder.write("report.json", numbers.model_dump_json().encode())
    context.writer.folder.write("contract.json", context.contract.model_dump_json().encode())
    context.writer.folder.write("index.html", b"<!doctype html>")
    context.writer.put("predictions", from_rows([{**HELD[0], "model": "t", "exact": True}], PREDICTION), PREDICTION)
    return RowCounts(1, {"stop": 1})


def _entry(name: str, role: str, millions: int, *, exact: float = 0.8) -> ModelEntry:
    def value(point: float) -> dict[str, Any]:
        return {"value": point, "low": 0.5, "high": 0.9, "n": 1}

    fields = {
        "name": name,
        "role": role,
        "parameters": millions * 1_000_000,
        "size_vs_teacher": millions / 20,
        "metrics": {"exact_match": value(exact), "exact_match_unseen": None, "ece": None},
        "latency": {"p50_ms": 1.0, "p95_ms": 123.4} if role == "teacher" else None,
        "cost": None,
        "against_teacher": {"retention": value(0.95)} if role == "student" else None,
    }
    return ModelEntry.model_validate(fields)
