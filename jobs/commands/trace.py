"""`rayleigh trace`: from a student, an export, an answer or a prompt back to the line of its source; every fingerprint on the way.

`engine/records/trace.py` documents what `--json` prints.
"""

import time
from typing import Any

from engine.curation.labels import PERSON
from engine.errors import InputError
from engine.records import trace as traces
from engine.records.base import Json
from engine.rows import Row
from jobs.commands.sql import Views

SHORTEST = 6  # characters of an id
EXAMPLES = 3  # of a student that are traced
ANSWER_COLUMNS = (
    "answer_id", "route", "teacher", "sample", "seed", "reasoning", "answer", "finish_reason", "tokens_in", "tokens_out", "logprob",
    "error", "trajectory", "checks", "agreement", "judge", "score", "confidence", "dimension_scores", "rubric_spread",
    "judge_decides", "pool", "reasons", "relation", "confidence_tier", "complexity", "quality", "ifd", "density",
)  # fmt: skip
LABEL_COLUMNS = ("pool", "reasons")
CURATION_COLUMNS = ("cluster", "dropped_by", "duplicate_of", "similarity")
EXAMPLE_COLUMNS = ("target", "final", "rationale", "limits", "cluster", "weight", "split", "kind")
PROMPT_COLUMNS = ("prompt_id", "task_unit", "text", "layer", "difficulty", "scenario", "language", "redacted", "parent_id")
SOURCE_COLUMNS = ("source", "line", "licence")
ANSWER_TABLES = ("candidates", "picked")  # corrections by a person are in the second only
DERIVED = "select kind, target, split from examples where kind != 'answer' and starts_with(example_id, ?) order by all"
PROMPT_TABLES = {"prompts": "prompt", "holdout": "holdout prompt", "dropped": "dropped prompt"}


def trace(run: str, identifier: str) -> traces.Trace:
    """Return the trace of `identifier`: a student's name, that of an export (`s.q8_0`), or the start of the id of an answer or a
    prompt.

    Raises:
        InputError: nothing in the run has this id, or several have, the message names the nearest; or an export is of an earlier
            training.
        MissingArtifact: no job has finished yet.
    """
    return trace_in(Views(run), identifier)


def trace_in(views: Views, identifier: str) -> traces.Trace:
    """Return the trace of `identifier` in an opened run; see `trace`."""
    if f"students/{identifier}" in views.artifacts:
        return _student(views, identifier)
    if (job := f"exports/{identifier.replace('.', '/')}") in views.artifacts:
        return _export(views, identifier, job)
    tables = [("answer_id", table) for table in ANSWER_TABLES] + [("prompt_id", table) for table in PROMPT_TABLES]
    for column, table in tables:
        ids = views.ids(table, column, identifier.partition("-")[0]) if len(identifier) >= SHORTEST else []
        if len(ids) > 1:
            raise InputError(f"{identifier}: several have such an id: {', '.join(ids)}. Give more of it.")
        if ids:
            return _answer(views, ids[0]) if table in ANSWER_TABLES else _prompt(views, table, ids[0])
    students = [name.partition("/")[2] for name in views.artifacts if name.startswith("students/")]
    known = [each for student in students for each in (student, *_exports(views, student))]
    raise InputError(
        f"{identifier}: no student, export, answer or prompt of {views.run} has this id (at least {SHORTEST} characters of one). "
        f"Students and exports: {', '.join(known) or 'none yet'}. Nearest ids: {', '.join(_nearest(views, identifier)) or 'none'}."
    )


def _export(views: Views, name: str, job: str) -> traces.StudentTrace:
    """Return the trace of the export `name`, which `job` made: that of its student, behind it."""
    metrics, student = views.artifacts[job].record.metrics, name.partition(".")[0]
    current = views.artifacts.get(f"students/{student}")
    if current is None or current.fingerprint != metrics["student"]:
        raise InputError(
            f"{name}: was made of another training of {student} than the one in {views.run}. Run again: rayleigh run makes it anew."
        )
    found = _student(views, student)
    return found.model_copy(update={"export": metrics, "records": (*_records(views, job), *found.records)})


def _exports(views: Views, student: str) -> list[str]:
    start = f"exports/{student}/"
    return [f"{student}.{job.removeprefix(start)}" for job in views.artifacts if job.startswith(start)]


def _student(views: Views, name: str) -> traces.StudentTrace:
    learnt = views.rows("select split, pool, count(*) as examples from examples group by all order by all")
    sources = "select source, count(*) as examples from examples join prompts using (prompt_id) group by all order by all"
    query = "select distinct split_part(example_id, '-', 1) as answer_id from examples where split = 'train' order by all limit ?"
    record = views.artifacts[f"students/{name}"].record
    read = [*(["capture"] if "capture" in record.inputs else []), "tokens", "dataset"]
    return traces.StudentTrace(
        student={
            "name": name,
            **record.metrics,
            "exports": _exports(views, name),
            "learnt": learnt,
            "sources": views.rows(sources),
        },
        examples=tuple(_path(views, row["answer_id"]) for row in views.rows(query, [EXAMPLES])),
        records=_records(views, f"students/{name}", *read, "candidates", "prompts"),
    )


def _answer(views: Views, answer_id: str) -> traces.AnswerTrace:
    path = _path(views, answer_id)
    return traces.AnswerTrace(**dict(path), records=_records(views, "dataset", "candidates", "prompts"))


def _path(views: Views, answer_id: str) -> traces.AnswerPath:
    picked = views.row("picked", "answer_id", answer_id)
    candidate = views.row("candidates", "answer_id", answer_id) or picked or {}
    example = views.row("examples", "example_id", answer_id)
    return traces.AnswerPath(
        example=_part(example, EXAMPLE_COLUMNS) if example else None,
        curation=_part(picked, CURATION_COLUMNS) if picked else None,
        candidate=_part(candidate, ANSWER_COLUMNS),
        parents=tuple(_merged(views, parent) for parent in candidate.get("parents") or ()),
        label=_part(picked, LABEL_COLUMNS) if picked and picked["judge"] == PERSON else None,
        derived=tuple(views.rows(DERIVED, [f"{answer_id}-"])) if "examples" in views.names else (),
        prompt=_part(candidate, PROMPT_COLUMNS),
        source=_part(candidate, SOURCE_COLUMNS),
        parent=_parent(views, candidate),
    )


def _merged(views: Views, answer_id: str) -> traces.MergedAnswer:
    row = views.row("candidates", "answer_id", answer_id) or {}
    return traces.MergedAnswer(candidate=_part(row, ANSWER_COLUMNS), source=_part(row, SOURCE_COLUMNS))


def _prompt(views: Views, table: str, prompt_id: str) -> traces.PromptTrace:
    row = views.row(table, "prompt_id", prompt_id) or {}
    answers = "select answer_id, teacher, sample, pool, reasons, answer from candidates where prompt_id = ? order by all"
    return traces.PromptTrace(
        prompt={
            **_part(row, PROMPT_COLUMNS),
            "place": PROMPT_TABLES[table],
            **_part(row, ("reference", "dropped_by", "duplicate_of", "similarity")),
            "answers": views.rows(answers, [prompt_id]) if "candidates" in views.names else [],
        },
        source=_part(row, SOURCE_COLUMNS),
        parent=_parent(views, row),
        records=_records(views, "candidates", "prompts"),
    )


def _parent(views: Views, row: Row) -> traces.TracedParent | None:
    parent = views.row("prompts", "prompt_id", row["parent_id"]) if row.get("parent_id") else None
    return traces.TracedParent(prompt=_part(parent, PROMPT_COLUMNS), source=_part(parent, SOURCE_COLUMNS)) if parent else None


def _nearest(views: Views, identifier: str) -> list[str]:
    columns = [("candidates", "answer_id"), *((table, "prompt_id") for table in PROMPT_TABLES)]
    selects = [f"select {column} as id from {table}" for table, column in columns if table in views.names]
    if not selects:
        return []
    query = f"select distinct id from ({' union all '.join(selects)}) order by levenshtein(left(id, ?), ?), id limit 3"
    return [row["id"] for row in views.rows(query, [len(identifier), identifier])]


def _part(row: Row, columns: tuple[str, ...]) -> Row:
    return {name: row[name] for name in columns if name in row}


def _records(views: Views, *jobs: str) -> tuple[traces.TracedArtifact, ...]:
    artifacts = {job: views.artifacts[job] for job in jobs if job in views.artifacts}
    return tuple(
        traces.TracedArtifact(
            job=job,
            folder=str(artifact.folder),
            fingerprint=artifact.fingerprint,
            commit=artifact.record.commit,
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(artifact.record.started + artifact.record.seconds)),
        )
        for job, artifact in artifacts.items()
    )


def as_text(trace: traces.Trace) -> str:
    """Return the trace as an indented tree, without what is empty."""
    return "\n".join(_lines(trace.model_dump(exclude={"kind"}, mode="json"), 0))


def _lines(value: Json | list[Json], depth: int) -> list[str]:
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
        rows = [[f"{key} {_plain(inner)}" for key, inner in item.items() if inner not in (None, "")] for item in value]
        return [pad + ", ".join(row) for row in rows]
    return [line for number, item in enumerate(value, start=1) for line in (f"{pad}({number})", *_lines(item, depth + 1))]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return " / ".join(str(value).splitlines())
