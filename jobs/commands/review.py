"""`rayleigh review`: answers out to a person, labels back in. Labels lie beside the artifacts and change the dataset's inputs.

`rayleigh review export RUN OUT --json` and `rayleigh review import RUN FILE --json` print what the functions return.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.checks import CheckInput, canonical, run_checks
from engine.contract.checks import JsonSchema
from engine.curation.labels import LABELS
from engine.errors import InputError, MissingArtifact
from engine.rows import POOLS
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.shards import iterate
from jobs import workspace
from jobs.commands import review_files
from jobs.steps import labels
from jobs.workspace import Workspace

READ = ["answer_id", "prompt_id", "task_unit", "pool", "reasons", "checks", "teacher", "confidence", "text", "answer"]
SHOWN = 5  # problems of a file that are named at once

Row = dict[str, Any]


def export(run: str, out: str, *, form: str, pool: str) -> dict[str, Any]:
    """Write the answers of `pool` for a person, with the labels that are known; or, as `gold`, all labelled ones as gold items.

    Returns `rows` and `out`.

    Raises:
        InputError: the pool or the format is unknown, or `out` is there already.
        MissingArtifact: the run has no candidates yet.
    """
    for name, found, known in (("--pool", pool, POOLS), ("--format", form, tuple(review_files.WRITERS))):
        if found not in known:
            raise InputError(f"{name} {found}: expected one of {', '.join(known)}.")
    target = Path(out)
    if target.exists():
        raise InputError(f"{out}: is there already, and may hold a person's work. Give another name, or remove it.")
    work = workspace.reopen(run)
    candidates, known = _candidates(work), labels.read(work.folder)
    rows = _gold(candidates, known) if form == "gold" else _rows(candidates, known, pool)
    target.parent.mkdir(parents=True, exist_ok=True)
    return {"rows": review_files.WRITERS[form](target, rows), "out": str(target)}


def import_(run: str, file: str) -> dict[str, Any]:
    """Keep the labels of `file` beside the run; a dataset that was made without them is removed, so that `run` makes it anew.

    Returns `new`, `changed`, `same` and `open` (not labelled) rows, `labels` in all, by label, and whether the dataset was
    `removed`. A file that is imported again changes nothing.

    Raises:
        InputError: a row names an unknown answer or label, or its correction does not fit; nothing is kept then.
    """
    work = workspace.reopen(run)
    with workspace.locked(work.folder):
        known = labels.read(work.folder)
        given, unlabelled = _given(Path(file))
        _check(work, given)
        told = {"new": 0, "changed": 0, "same": 0, "open": unlabelled}
        for key, label in given.items():
            told["same" if known.get(key) == label else "changed" if key in known else "new"] += 1
        known |= given
        is_stale = bool(told["new"] + told["changed"])
        if is_stale:
            labels.write(work.folder, known)
        removed = is_stale and load_artifact(work.folder / "dataset") is not None
        if removed:
            (work.folder / "dataset").remove()
    counts = {name: sum(label["label"] == name for label in known.values()) for name in LABELS}
    return {**told, "labels": counts, "removed": removed, "run": str(work.folder), "contract": work.contract_path}


def _candidates(work: Workspace) -> Artifact:
    found = load_artifact(work.folder / "candidates")
    if found is None:
        raise MissingArtifact(f"{work.folder}: has no candidates yet. `rayleigh run` makes them.")
    return found


def _pieces(candidates: Artifact, columns: list[str]) -> Iterator[pa.Table]:
    return iterate(candidates.folder / "candidates", candidates.table("candidates"), columns)


def _rows(candidates: Artifact, known: labels.Labels, pool: str) -> Iterator[Row]:
    for piece in _pieces(candidates, READ):
        for row in piece.filter(pc.equal(piece["pool"], pool)).to_pylist():
            failed = [f"{check['tag']}: {check['detail']}" for check in row["checks"] or () if not check["passed"]]
            said = known.get(row["answer_id"], {"label": "", "correction": ""})
            yield {
                **{name: row[name] or "" for name in ("answer_id", "prompt_id", "task_unit", "pool", "teacher", "answer")},
                "reasons": "; ".join(row["reasons"]),
                "faults": "; ".join(failed),
                "confidence": "" if row["confidence"] is None else round(row["confidence"], 4),
                "input": row["text"],
                "label": said["label"],
                "correction": said["correction"],
            }


def _gold(candidates: Artifact, known: labels.Labels) -> Iterator[Row]:
    """Labelled answers as `judges.calibrate.gold` reads them; a corrected one is wrong, and its correction right."""
    for row in _known(candidates, known, ["text", "answer"]):
        said = known[row["answer_id"]]
        yield {"input": row["text"], "answer": row["answer"], "label": "right" if said["label"] == "right" else "wrong"}
        if said["label"] == "corrected":
            yield {"input": row["text"], "answer": said["correction"], "label": "right"}


def _known(candidates: Artifact, wanted: labels.Labels, columns: list[str]) -> Iterator[Row]:
    ids = pa.array(sorted(wanted), pa.string())
    for piece in _pieces(candidates, ["answer_id", *columns]):
        yield from piece.filter(pc.is_in(piece["answer_id"], ids)).to_pylist()


def _given(file: Path) -> tuple[labels.Labels, int]:
    """Return the labels of a file, and how many rows have none."""
    found: labels.Labels = {}
    problems, unlabelled = [], 0
    for where, row in review_files.read(file):
        answer_id, label, correction = (str(row.get(name) or "").strip() for name in ("answer_id", "label", "correction"))
        if not label:
            unlabelled += 1
        elif label not in LABELS:
            problems.append(f"{where}: label: found {label!r}, expected one of {', '.join(LABELS)}, or nothing")
        elif not answer_id:
            problems.append(f"{where}: has a label and no answer_id")
        elif (label == "corrected") != bool(correction):
            problems.append(f"{where}: found label {label} and correction {correction[:40]!r}; corrected needs one, others none")
        elif found.setdefault(answer_id, said := dict(answer_id=answer_id, label=label, correction=correction)) != said:
            problems.append(f"{where}: {answer_id} was labelled otherwise before, in the same file")
    _raise(file, problems)
    return found, unlabelled


def _check(work: Workspace, given: labels.Labels) -> None:
    """Raise InputError if an answer is not the run's, or a correction is no answer of its task unit."""
    answers = {row["answer_id"]: row for row in _known(_candidates(work), given, ["task_unit", "answer"])}
    problems = [f"{key}: no answer of {work.folder} has this id" for key in given if key not in answers]
    for key, row in answers.items():
        correction = given[key]["correction"]
        schema = work.contract.specialist.unit(row["task_unit"]).output.json_schema
        if correction and canonical(correction) == canonical(row["answer"]):
            problems.append(f"{key}: the correction is the answer itself; label it right")
        elif correction and schema:
            [outcome] = run_checks([JsonSchema(type="json_schema")], CheckInput(correction, schema=schema))
            problems += [] if outcome.passed else [f"{key}: the correction is {outcome.tag}: {outcome.detail}"]
    _raise(work.folder, problems)


def _raise(place: object, problems: list[str]) -> None:
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        listed = "\n".join(f"  {one}" for one in [*problems[:SHOWN], *more])
        raise InputError(f"{place}: nothing was kept:\n{listed}\nMend the file and import it again.")


def as_text(found: dict[str, Any]) -> str:
    """Return in words what an export or import did."""
    if "out" in found:
        return f"{found['rows']} answers   {found['out']}"
    counts = ", ".join(f"{count} {label}" for label, count in found["labels"].items())
    told = f"{found['new']} new, {found['changed']} changed, {found['same']} known labels, {found['open']} rows without one"
    lines = [told, f"labels   {counts}"]
    if found["removed"]:
        again = f"rayleigh run {found['contract']} {found['run']} --until dataset"
        lines.append(f"The dataset was made without them and is removed. To make it anew:\n         {again}")
    return "\n".join(lines)
