"""`rayleigh review`: export answers for a person to label, and import the labels.

Labels are stored in the run folder, next to the artifacts, and are an input of the dataset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.checks import CheckInput, canonical, run_checks
from engine.contract.checks import JsonSchema
from engine.curation.labels import LABELS
from engine.errors import InputError
from engine.records.candidates import CandidatesMetrics
from engine.records.estimate import Estimate
from engine.records.review import ReviewExport, ReviewImport
from engine.rows import POOLS, Row
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.shards import iterate
from jobs import workspace
from jobs.commands import review_draw, review_files
from jobs.steps import labels
from jobs.terminal.console import columns
from jobs.workspace import Workspace

READ = ["answer_id", "prompt_id", "task_unit", "pool", "reasons", "checks", "teacher", "confidence", "text", "answer"]
GOLD = [
    "answer_id", "prompt_id", "parent_id", "task_unit", "text", "answer", "teacher", "sample", "finish_reason", "checks",
]  # fmt: skip
MAX_PROBLEMS = 5  # of a file, in one message
CHOSEN = "They are chosen, not random: the model learns most from them, and the share of right ones is lower than in the run."


def export(run: str, out: str, *, form: str, pool: str | None = None, size: int | None = None) -> ReviewExport:
    """Write the answers of `pool`, by default of `review`, with their labels, if any, to `out`; with the format `gold`, all
    labelled answers as gold items. With `size`: so many of the most informative answers of `pool`, by default of all pools.

    Raises:
        InputError: the pool or the format is unknown, `out` exists, or `size` cannot be drawn.
        MissingArtifact: the run has no candidates yet.
    """
    for option, value, allowed in (("--pool", pool, (*POOLS, None)), ("--format", form, tuple(review_files.WRITERS))):
        if value not in allowed:
            raise InputError(f"{option}: found {value!r}, expected one of {', '.join(filter(None, allowed))}.")
    if size is not None and (size < 1 or form == "gold"):
        raise InputError(
            f"--draw: found {size} with --format {form}, expected at least 1, and a format for a person: gold has labels."
        )
    target = Path(out)
    if target.exists():
        raise InputError(f"{out}: found a file or folder, expected none. Give another name, or remove it.")
    work = workspace.reopen(run)
    candidates, stored = workspace.finished(work.folder, "candidates"), labels.read(work.folder)
    if size is not None:
        return _drawn(work, stored, DrawRequest(form, pool, size, target))
    rows = _gold(candidates, stored) if form == "gold" else _rows(candidates, stored, pool or "review")
    target.parent.mkdir(parents=True, exist_ok=True)
    return ReviewExport(rows=review_files.WRITERS[form](target, rows), out=str(target))


@dataclass(frozen=True)
class DrawRequest:
    """What an export with `--draw` is asked for."""

    form: str
    pool: str | None
    size: int
    target: Path


def import_(run: str, file: str) -> ReviewImport:
    """Store the labels of `file` in the run folder. A dataset that was made without them is removed; `rayleigh run` makes it again.

    Importing a file again changes nothing.

    Raises:
        InputError: a row names an unknown answer or label, or its correction is invalid; then nothing is stored.
    """
    work = workspace.reopen(run)
    with workspace.locked(work.folder):
        stored = labels.read(work.folder)
        imported, num_open = _read(Path(file))
        _check(work, imported)
        new = sum(key not in stored for key in imported)
        same = sum(stored.get(key) == label for key, label in imported.items())
        stored |= imported
        is_stale = len(imported) > same
        if is_stale:
            labels.write(work.folder, stored)
        removed = is_stale and load_artifact(work.folder / "dataset") is not None
        if removed:
            (work.folder / "dataset").remove()
    counts = {name: sum(label["label"] == name for label in stored.values()) for name in LABELS}
    return ReviewImport(
        new=new,
        changed=len(imported) - new - same,
        same=same,
        open=num_open,
        labels=counts,
        removed=removed,
        run=str(work.folder),
        contract=work.contract_path,
    )


def _pieces(candidates: Artifact, columns: list[str]) -> Iterator[pa.Table]:
    return iterate(candidates.folder / "candidates", candidates.table("candidates"), columns)


def _rows(candidates: Artifact, stored: labels.Labels, pool: str) -> Iterator[Row]:
    for piece in _pieces(candidates, READ):
        yield from _shown(piece.filter(pc.equal(piece["pool"], pool)), stored)


def _drawn(work: Workspace, stored: labels.Labels, request: DrawRequest) -> ReviewExport:
    """Write the most informative answers, and say what their labels would do to the judge's intervals."""
    candidates = workspace.finished(work.folder, "candidates")
    calibrate = work.contract.judges.calibrate
    labelled = sorted({item.input for item in calibrate.gold} if calibrate else set())
    labelled += [row["text"] for row in _answers(candidates, stored, ["text"])]
    pieces = _pieces(candidates, review_draw.READ)
    drawn = review_draw.draw(pieces, request.size, pool=request.pool, labelled=labelled, known=set(stored))
    request.target.parent.mkdir(parents=True, exist_ok=True)
    count = review_files.WRITERS[request.form](request.target, _drawn_rows(candidates, drawn.answer_ids))
    judge = candidates.metrics(CandidatesMetrics).judge
    intervals = review_draw.forecast(judge.agreement, drawn) if judge and judge.agreement else []
    return ReviewExport(rows=count, out=str(request.target), intervals=tuple(intervals))


def _drawn_rows(candidates: Artifact, drawn: Sequence[str]) -> list[Row]:
    """Return the rows of the answers `drawn`, in their order."""
    ids = pa.array(drawn, pa.string())
    rows = {
        row["answer_id"]: row
        for piece in _pieces(candidates, READ)
        for row in _shown(piece.filter(pc.is_in(piece["answer_id"], ids)), {})
    }
    return [rows[answer_id] for answer_id in drawn]


def _shown(piece: pa.Table, stored: labels.Labels) -> Iterator[Row]:
    """Yield the rows of an export."""
    for row in piece.to_pylist():
        failed = [f"{check['tag']}: {check['detail']}" for check in row["checks"] or () if not check["passed"]]
        label = stored.get(row["answer_id"], {"label": "", "correction": ""})
        yield {
            **{name: row[name] or "" for name in ("answer_id", "prompt_id", "task_unit", "pool", "teacher", "answer")},
            "reasons": "; ".join(row["reasons"]),
            "faults": "; ".join(failed),
            "confidence": "" if row["confidence"] is None else round(row["confidence"], 4),
            "input": row["text"],
            "label": label["label"],
            "correction": label["correction"],
        }


def _gold(candidates: Artifact, stored: labels.Labels) -> Iterator[Row]:
    """Yield labelled answers in the form of `judges.calibrate.gold`: a corrected answer is wrong, and its correction right.

    Answers to one prompt, and to prompts that were synthesized from one, are a group. `samples` are the prompt's answers that
    passed every check, by teacher.
    """
    for piece in _pieces(candidates, GOLD):
        samples: dict[str, dict[str, list[str]]] = {}
        for row in piece.sort_by([("prompt_id", "ascending"), ("sample", "ascending")]).to_pylist():
            if row["finish_reason"] == "stop" and row["teacher"] and all(check["passed"] for check in row["checks"] or ()):
                samples.setdefault(row["prompt_id"], {}).setdefault(row["teacher"], []).append(row["answer"])
        for row in piece.filter(pc.is_in(piece["answer_id"], pa.array(sorted(stored), pa.string()))).to_pylist():
            label = stored[row["answer_id"]]
            same = {"input": row["text"], "task_unit": row["task_unit"], "group": row["parent_id"] or row["prompt_id"]}
            same["samples"] = samples.get(row["prompt_id"], {})
            value = "right" if label["label"] == "right" else "wrong"
            yield {**same, "answer": row["answer"], "label": value, "author": row["teacher"] or ""}
            if label["label"] == "corrected":
                yield {**same, "answer": label["correction"], "label": "right"}


def _answers(candidates: Artifact, labelled: labels.Labels, columns: list[str]) -> Iterator[Row]:
    ids = pa.array(sorted(labelled), pa.string())
    for piece in _pieces(candidates, ["answer_id", *columns]):
        yield from piece.filter(pc.is_in(piece["answer_id"], ids)).to_pylist()


def _read(file: Path) -> tuple[labels.Labels, int]:
    """Return the labels of a file, and the number of rows without one."""
    imported: labels.Labels = {}
    problems, num_open = [], 0
    for where, row in review_files.read(file):
        answer_id, label, correction = (str(row.get(name) or "").strip() for name in ("answer_id", "label", "correction"))
        if not label:
            num_open += 1
        elif label not in LABELS:
            problems.append(f"{where}: label: found {label!r}, expected one of {', '.join(LABELS)}, or nothing")
        elif not answer_id:
            problems.append(f"{where}: answer_id: found none, expected one for the label {label}")
        elif (label == "corrected") != bool(correction):
            problems.append(f"{where}: correction: found {correction[:40]!r} with label {label}, expected one for corrected only")
        elif imported.setdefault(answer_id, entry := dict(answer_id=answer_id, label=label, correction=correction)) != entry:
            problems.append(f"{where}: {answer_id}: found another label earlier in this file, expected one")
    _raise(file, problems)
    return imported, num_open


def _check(work: Workspace, imported: labels.Labels) -> None:
    """Raise InputError if an answer is not in the run, or a correction does not fit the schema of its task unit."""
    candidates = workspace.finished(work.folder, "candidates")
    answers = {row["answer_id"]: row for row in _answers(candidates, imported, ["task_unit", "answer"])}
    problems = [f"{key}: found no answer with this id in {work.folder}" for key in imported if key not in answers]
    for key, row in answers.items():
        correction = imported[key]["correction"]
        schema = work.contract.specialist.unit(row["task_unit"]).output.json_schema
        if correction and canonical(correction) == canonical(row["answer"]):
            problems.append(f"{key}: the correction is the answer itself; label it right")
        elif correction and schema:
            [outcome] = run_checks([JsonSchema(type="json_schema")], CheckInput(correction, schema=schema))
            problems += [] if outcome.passed else [f"{key}: the correction is {outcome.tag}: {outcome.detail}"]
    _raise(work.folder, problems)


def _raise(place: object, problems: list[str]) -> None:
    if problems:
        more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
        listed = "\n".join(f"  {line}" for line in [*problems[:MAX_PROBLEMS], *more])
        raise InputError(f"{place}: nothing was imported:\n{listed}\nCorrect the file and import it again.")


def export_text(result: ReviewExport) -> str:
    """Return the result of an export for a person."""
    lines = [f"{result.rows} answers   {result.out}"]
    if result.intervals:
        rows = [[each.name, *map(_with_ends, (each.now, each.then))] for each in result.intervals]
        lines += [columns(rows, head=["number", "now", "with these labels, if it stays"]), CHOSEN]
    return "\n".join(lines)


def _with_ends(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def import_text(result: ReviewImport) -> str:
    """Return the result of an import for a person."""
    counts = ", ".join(f"{count} {label}" for label, count in result.labels.items())
    changes = f"{result.new} new, {result.changed} changed, {result.same} known labels, {result.open} rows without one"
    lines = [changes, f"labels   {counts}"]
    if result.removed:
        again = f"rayleigh run {result.contract} {result.run} --until dataset"
        lines.append(f"The dataset was made with other labels and is removed. To make it again:\n         {again}")
    return "\n".join(lines)
