"""A decision, not a step of the line: promote the smallest student that meets the contract, or return to the champion before."""

import json
from collections import Counter
from typing import Any

from engine.contract import Contract
from engine.errors import GateRefused, MissingArtifact, RecipeMismatch, StorageError
from engine.release import staleness
from engine.release.card import Provenance, card
from engine.release.gate import decide, explain
from engine.release.lineage import lineage
from engine.release.registry import CONTRACT, REPORT, Package, Registry
from engine.rows import EXAMPLE, PROMPT
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.shards import Folder, iterate
from jobs import workspace
from jobs.steps import evaluation_lists

Report = dict[str, Any]


def promote(run_dir: str, registry: str, student: str | None = None) -> dict[str, Any]:
    """Make the smallest student of the run that passes the gate, or `student` if it passes, the champion of its contract.

    Returns {contract, student, fingerprint, release (folder), changed (False if it was the champion already), before (the student
    that was champion, or None), passing, refusals}.

    Raises:
        GateRefused: no student passes; every number that refused one is named. Or its training set was not compared with what the
            models were examined on, and with the evaluation lists as they are today.
        MissingArtifact: the run has no report, or no such student.
        RecipeMismatch: the report speaks of another student than the run holds.
        StorageError: a file of the student does not match its record.
    """
    run = Folder(run_dir)
    reports = _artifact(run, "reports")
    try:
        report: Report = json.loads(reports.folder.read(REPORT))
        contract = Contract.model_validate_json(reports.folder.read(CONTRACT))
    except ValueError as error:
        why = str(error).splitlines()[0]
        raise StorageError(f"{reports.folder}: cannot be read by this version: {why}. Delete it and run again.") from None
    word = decide(report["models"], contract.gate)
    chosen = _choose(word, student)
    trained = _artifact(run, f"students/{chosen}")
    _same_student(reports, trained, chosen)
    _decontaminated(run, contract, trained)

    shelf = Registry(Folder(registry), contract.name)
    before = shelf.champion
    package = Package(chosen, trained.fingerprint, _papers(run, contract, report, chosen))
    event = shelf.promote(trained, package)
    return {
        "contract": contract.name,
        "student": chosen,
        "fingerprint": trained.fingerprint,
        "release": f"{shelf.folder}/{event['release']}",
        "changed": before is None or before["id"] != event["id"],
        "before": before and before["student"],
        "passing": word["passing"],
        "refusals": word["refusals"],
    }


def rollback(registry: str, name: str) -> dict[str, Any]:
    """Return to the champion before today's of the contract `name`.

    Returns {contract, student, fingerprint, release (folder), left (the student that was champion)}.

    Raises:
        MissingArtifact: there is no champion, or none before it.
    """
    shelf = Registry(Folder(registry), name)
    left, now = shelf.rollback()
    return {
        "contract": name,
        "student": now["student"],
        "fingerprint": now["fingerprint"],
        "release": f"{shelf.folder}/{now['release']}",
        "left": left["student"],
    }


def _choose(word: dict[str, Any], student: str | None) -> str:
    if student is not None and student not in word["numbers"]:
        raise MissingArtifact(f"the report knows no student {student!r}; it has {', '.join(sorted(word['numbers'])) or 'none'}.")
    wanted = [student] if student else list(word["numbers"])
    passing = [name for name in word["passing"] if name in wanted]
    if passing:
        return passing[0]
    lines = [f"  {name}: {explain(number)}" for name in wanted for number in word["refusals"][name]]
    who = f"student {student!r}" if student else f"{len(wanted)} student(s)"
    also = f" {', '.join(word['passing'])} would pass." if word["passing"] else ""
    end = f"The champion stays as it is.{also} Improve the student, or order less in `gate`."
    raise GateRefused("\n".join([f"the gate refused {who}:", *lines, end]))


def _same_student(reports: Artifact, trained: Artifact, name: str) -> None:
    examined = reports.record.inputs.get(f"students/{name}")
    if examined != trained.fingerprint:
        raise RecipeMismatch(
            f"{reports.folder} speaks of {name} {str(examined)[:12]}, but {trained.folder} holds {trained.fingerprint[:12]}. "
            f"Delete {reports.folder} and run again, so that what is promoted is what was examined."
        )


def _decontaminated(run: Folder, contract: Contract, trained: Artifact) -> None:
    """Raise GateRefused unless the training set of `trained` was compared with the report's holdout and the contract's lists."""
    name = trained.record.job
    artifacts = {job: _artifact(run, job) for job in ("prompts", "dataset", "reports")} | {name: trained}
    records = {job: {"fingerprint": one.fingerprint, "inputs": one.record.inputs} for job, one in artifacts.items()}
    lists = contract.curation.decontaminate.lists
    today = evaluation_lists.hashes(contract, workspace.reopen(run.url).root) if lists else {}
    told = artifacts["dataset"].record.metrics.get("decontamination")
    holdout = artifacts["prompts"].table("holdout").digest
    found = [*staleness.apart(name, records), *staleness.stale(told, holdout=holdout, lists=today)]
    if found:
        lines = "".join(f"\n  {reason}" for reason in found)
        raise GateRefused(
            f"no fresh report of decontamination, {name} is not released:{lines}\n"
            f"Delete {run}/dataset, {run}/students and {run}/reports, then: rayleigh run CONTRACT {run}. No teacher is asked again."
        )


def _papers(run: Folder, contract: Contract, report: Report, student: str) -> dict[str, str]:
    names = ["prompts", "candidates", "dataset", f"students/{student}", "reports"]
    path = lineage({name: _artifact(run, name) for name in names})
    entry = next(model for model in report["models"] if model["name"] == student and model["role"] == "student")
    made = Provenance(
        contract=contract.name,
        student=contract.student(student),
        teachers=contract.teachers.models,
        licences=_count(_artifact(run, "prompts"), "prompts", PROMPT, "licence"),
        examples=_count(_artifact(run, "dataset"), "examples", EXAMPLE, "split"),
        labels=contract.prompts.holdout.labels,
        lineage=path,
    )
    return {
        "card.md": card(contract.specialist, made, entry=entry, report=report, gate=contract.gate),
        "lineage.json": json.dumps(path, indent=1),
        CONTRACT: contract.model_dump_json(indent=1),
        REPORT: json.dumps(report, indent=1),
    }


def _count(artifact: Artifact, table: str, schema: Any, column: str) -> dict[str, int]:
    """Rows of `table` by the values of `column`, shard by shard."""
    assert column in schema.names
    counts: Counter[str] = Counter()
    for piece in iterate(artifact.folder / table, artifact.table(table), [column]):
        counts.update(piece[column].to_pylist())
    return dict(counts)


def _artifact(run: Folder, name: str) -> Artifact:
    found = load_artifact(run / name)
    if found is None:
        raise MissingArtifact(f"{run}/{name}: no finished job has made it. Run the line first: rayleigh run CONTRACT.")
    return found
