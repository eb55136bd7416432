"""From a student, an answer or a prompt back to the line of the file that it came from, with every fingerprint on the way.

`rayleigh trace RUN ID --json` prints, as far as ID has it,

    kind        student | answer | prompt
    student     name, training facts; `learnt` examples by split and pool, `sources` they came from, by file
    examples    of a student: some of what it learnt, each traced as an answer
    example     of an answer: what students read and must say, its split and weight; null if none was made of it
    curation    cluster, what it was dropped by, the answer it lost to and how similar they were
    candidate   teacher, sample, seed, answer, ending, checks, scores, pool, reasons, relation to other teachers' answers, tier
    parents     of an answer that was made of others, by merging or by a person's correction: these, as `candidate`
    label       where a person put it, and why
    contrastive contrastive examples that were made of it
    prompt      id, text, layer, difficulty, scenario, what was redacted, what it was dropped by; its answers
    parent      of a prompt that was written from another: that one, with its source
    source      file, line, licence
    records     job, folder, fingerprint, commit and time of each artifact on the way
"""

import time
from typing import Any

from engine.curation.labels import PERSON
from engine.errors import InputError
from engine.storage.artifact import Artifact
from jobs.commands.sql import Views

SHORTEST = 6
EXAMPLES = 3
ANSWERED = (
    "answer_id", "route", "teacher", "sample", "seed", "reasoning", "answer", "finish_reason", "tokens_in", "tokens_out", "logprob",
    "error", "trajectory",
)  # fmt: skip
JUDGED = (
    "checks", "agreement", "judge", "score", "confidence", "dimension_scores", "rubric_spread", "judge_decides", "pool", "reasons", "relation", "confidence_tier",
    "complexity", "quality", "ifd", "density",
)  # fmt: skip
LABELLED = ("pool", "reasons")
CURATED = ("cluster", "dropped_by", "duplicate_of", "similarity")
LEARNT = ("target", "final", "rationale", "limits", "cluster", "weight", "split", "kind")
ASKED = ("prompt_id", "task_unit", "text", "layer", "difficulty", "scenario", "language", "redacted", "parent_id")
FOUND_AT = ("source", "line", "licence")
ANSWERS = ("candidates", "picked")  # a person's corrections are in the second only
PLACES = {"prompts": "prompt", "holdout": "holdout prompt", "dropped": "dropped prompt"}

Facts = dict[str, Any]


def trace(run: str, wanted: str) -> Facts:
    """Return the object that the module describes.

    Raises:
        InputError: nothing of the run has this id, or several have; the nearest are named.
    """
    views = Views(run)
    if f"students/{wanted}" in views.artifacts:
        return _student(views, wanted)
    answered = [("answer_id", table) for table in ANSWERS]
    for column, table in (*answered, *(("prompt_id", table) for table in PLACES)):
        found = _ids(views, table, column, wanted.partition("-")[0]) if len(wanted) >= SHORTEST else []
        if len(found) > 1:
            raise InputError(f"{wanted}: several have such an id: {', '.join(found)}. Give more of it.")
        if found:
            return _answer(views, found[0]) if table in ANSWERS else _prompt(views, table, found[0])
    students = [name.partition("/")[2] for name in views.artifacts if name.startswith("students/")]
    raise InputError(
        f"{wanted}: no student, answer or prompt of {views.run} has this id (at least {SHORTEST} characters of one). "
        f"Students: {', '.join(students) or 'none yet'}. Nearest ids: {', '.join(_nearest(views, wanted)) or 'none'}."
    )


def _student(views: Views, name: str) -> Facts:
    learnt = views.rows("select split, pool, count(*) as examples from examples group by all order by all")
    sources = views.rows(
        "select source, count(*) as examples from examples join prompts using (prompt_id) group by source order by source"
    )
    some = views.rows(
        "select distinct split_part(example_id, '-', 1) as answer_id from examples where split = 'train' order by all limit ?",
        [EXAMPLES],
    )
    return {
        "kind": "student",
        "student": {"name": name, **views.artifacts[f"students/{name}"].record["metrics"], "learnt": learnt, "sources": sources},
        "examples": [_inner(_answer(views, row["answer_id"])) for row in some],
        "records": _records(views, f"students/{name}", "dataset", "candidates", "prompts"),
    }


def _answer(views: Views, answer_id: str) -> Facts:
    picked = _one(views, "picked", "answer_id", answer_id)
    row = _one(views, "candidates", "answer_id", answer_id) or picked or {}
    example = _one(views, "examples", "example_id", answer_id)
    is_labelled = picked is not None and picked["judge"] == PERSON
    return {
        "kind": "answer",
        "example": example and _part(example, LEARNT),
        "curation": picked and _part(picked, CURATED),
        "candidate": _part(row, ANSWERED + JUDGED),
        "parents": [_made_of(views, parent) for parent in row["parents"] or ()],
        "label": _part(picked, LABELLED) if picked and is_labelled else None,
        "contrastive": _contrastive(views, answer_id),
        "prompt": _part(row, ASKED),
        "source": _part(row, FOUND_AT),
        "parent": _parent(views, row),
        "records": _records(views, "dataset", "candidates", "prompts"),
    }


def _made_of(views: Views, answer_id: str) -> Facts:
    row = _one(views, "candidates", "answer_id", answer_id) or {}
    return {"candidate": _part(row, ANSWERED + JUDGED), "source": _part(row, FOUND_AT)}


def _contrastive(views: Views, answer_id: str) -> list[Facts]:
    if "examples" not in views.names:
        return []
    query = "select kind, target, split from examples where kind != 'answer' and starts_with(example_id, ?) order by all"
    return views.rows(query, [f"{answer_id}-"])


def _prompt(views: Views, table: str, prompt_id: str) -> Facts:
    row = _one(views, table, "prompt_id", prompt_id) or {}
    answers = "select answer_id, teacher, sample, pool, reasons, answer from candidates where prompt_id = ? order by all"
    return {
        "kind": "prompt",
        "prompt": {
            **_part(row, ASKED),
            "place": PLACES[table],
            **{name: row[name] for name in ("reference", "dropped_by", "duplicate_of", "similarity") if name in row},
            "answers": views.rows(answers, [prompt_id]) if "candidates" in views.names else [],
        },
        "source": _part(row, FOUND_AT),
        "parent": _parent(views, row),
        "records": _records(views, "candidates", "prompts"),
    }


def _parent(views: Views, row: Facts) -> Facts | None:
    parent = _one(views, "prompts", "prompt_id", row["parent_id"]) if row.get("parent_id") else None
    return parent and {"prompt": _part(parent, ASKED), "source": _part(parent, FOUND_AT)}


def _ids(views: Views, table: str, column: str, start: str) -> list[str]:
    if table not in views.names:
        return []
    query = f"select distinct {column} as id from {table} where starts_with({column}, ?) order by id limit 5"
    return [row["id"] for row in views.rows(query, [start])]


def _nearest(views: Views, wanted: str) -> list[str]:
    columns = [("candidates", "answer_id"), *((table, "prompt_id") for table in PLACES)]
    parts = [f"select {column} as id from {table}" for table, column in columns if table in views.names]
    if not parts:
        return []
    query = f"select distinct id from ({' union all '.join(parts)}) order by levenshtein(left(id, ?), ?), id limit 3"
    return [row["id"] for row in views.rows(query, [len(wanted), wanted])]


def _one(views: Views, table: str, column: str, value: str) -> Facts | None:
    rows = views.rows(f"select * from {table} where {column} = ? limit 1", [value]) if table in views.names else []
    return rows[0] if rows else None


def _part(row: Facts, names: tuple[str, ...]) -> Facts:
    return {name: row[name] for name in names if name in row}


def _records(views: Views, *jobs: str) -> list[Facts]:
    return [_record(job, views.artifacts[job]) for job in jobs if job in views.artifacts]


def _record(job: str, artifact: Artifact) -> Facts:
    ended = artifact.record["started"] + artifact.record["seconds"]
    return {
        "job": job,
        "folder": str(artifact.folder),
        "fingerprint": artifact.fingerprint,
        "commit": artifact.record["commit"],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ended)),
    }


def _inner(facts: Facts) -> Facts:
    return {name: value for name, value in facts.items() if name not in ("kind", "records")}


def as_text(facts: Facts, *, indent: int = 0) -> str:
    """Return the object as an indented tree."""
    return "\n".join(_lines({key: value for key, value in facts.items() if key != "kind"}, indent))


def _lines(value: Any, depth: int) -> list[str]:
    pad = "  " * depth
    if isinstance(value, dict):
        lines = []
        for key, inner in value.items():
            if inner is None or inner in ([], "", {}):
                continue
            if isinstance(inner, dict) or (isinstance(inner, list) and isinstance(inner[0], dict)):
                lines += [f"{pad}{key}", *_lines(inner, depth + 1)]
            else:
                lines.append(f"{pad}{key}: {_plain(inner)}")
        return lines
    if all(not isinstance(inner, dict | list) for item in value for inner in item.values()):
        said = [[f"{key} {_plain(inner)}" for key, inner in item.items() if inner not in (None, "")] for item in value]
        return [pad + ", ".join(parts) for parts in said]
    return [line for number, item in enumerate(value, start=1) for line in (f"{pad}({number})", *_lines(item, depth + 1))]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return " / ".join(str(value).splitlines())
