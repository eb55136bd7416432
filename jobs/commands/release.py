"""`rayleigh promote`: make the student that the gate chooses the champion. `rayleigh rollback`: return to the previous one."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from engine.contract.contract import Contract
from engine.errors import ContractError, GateRefused, MissingArtifact, RecipeMismatch
from engine.records.gate import GateDecision
from engine.records.release import LineageEntry, Promotion, Rollback
from engine.records.report import Report
from engine.release import learnt, staleness
from engine.release.card import Provenance, card
from engine.release.explain import explain, undecided_lines
from engine.release.gate import UNTESTED, decide
from engine.release.registry import CONTRACT, REPORT, Ground, Package, Registry
from engine.release.staleness import ArtifactInputs, Compared
from engine.report.row_counts import count_values
from engine.report.sampling import pieces
from engine.rows import EXAMPLE, PROMPT
from engine.serving.deployment import MANIFEST
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.steps import evaluation_lists
from jobs.steps.deployed import evaluated_on, manifest

TRACED = {"inputs", "row_counts", "packages", "commit"}  # of an artifact's record, in the lineage


class Terms(NamedTuple):
    """How a student may be promoted."""

    student: str | None = None  # this one alone
    by_point: bool = False  # decide by point values, whatever the contract says
    undecided: bool = False  # promote a student on which the gate is undecided, too
    why: str | None = None  # the reason for it


DEFAULT = Terms()


def promote(run_dir: str, registry_dir: str, terms: Terms = DEFAULT) -> Promotion:
    """Make the student or export of the run that the gate chooses, or `terms.student` if it passes, the champion of its contract.

    Exports are called STUDENT.NAME, such as `s.q8_0`; smallest is by bytes of weights.

    Raises:
        ContractError: `terms` want an undecided student without a reason, or a reason without one.
        GateRefused: no student passes; the message names every requirement that was missed or is open. Or the training set was not
            compared with the report's holdout and with the evaluation lists as they are today.
        MissingArtifact: the run has no report, or no such student.
        RecipeMismatch: the report was made on another student than the run holds.
        StorageError: a file of the student does not match its record.
    """
    _check_terms(terms)
    run = Folder(run_dir)
    reports = workspace.finished(run, "reports")
    report = workspace.read_model(reports.folder, REPORT, Report)
    contract = workspace.read_model(reports.folder, CONTRACT, Contract)
    gate = decide(report.models, contract.gate, by_point=terms.by_point, confirmation=report.gate.confirmation)
    chosen = _choose(gate, terms)
    trained = workspace.finished(run, job_of(chosen))
    student_of = chosen.partition(".")[0]  # of an export
    for name in dict.fromkeys([student_of, chosen]):
        _check_student(reports, workspace.finished(run, job_of(name)), name)
    _check_decontamination(run, contract, workspace.finished(run, job_of(student_of)))

    registry = Registry(Folder(registry_dir), contract.name)
    before, word = registry.champion, gate.words[chosen]
    ground = Ground(word, gate.by, terms.why if word == "undecided" else None)
    files = _files(run, contract, report, (chosen, gate, ground))
    package = Package(chosen, trained.fingerprint, files, evaluated_on(reports, chosen))
    event = registry.promote(trained, package, ground)
    return Promotion(
        contract=contract.name,
        student=chosen,
        fingerprint=trained.fingerprint,
        release=f"{registry.folder}/{event.release}",
        changed=before is None or before.id != event.id,
        before=before and before.student,
        passing=gate.passing,
        refusals=gate.refusals,
        undecided=gate.undecided,
        word=word,
        by=gate.by,
        why=ground.why,
    )


def _check_terms(terms: Terms) -> None:
    if terms.undecided and not (terms.why or "").strip():
        raise ContractError(
            "--undecided: needs --why TEXT: why is a student promoted of which it is not known whether it meets the contract? "
            "The text is kept in the registry and on the card."
        )
    if terms.why and not terms.undecided:
        raise ContractError("--why: is kept only for a student on which the gate is undecided; add --undecided, or leave it out.")


def rollback(registry_dir: str, name: str) -> Rollback:
    """Return to the previous champion of the contract `name`.

    Raises:
        MissingArtifact: there is no champion, or none before it.
        StorageError: the release of the previous champion is incomplete.
    """
    registry = Registry(Folder(registry_dir), name)
    before, now = registry.rollback()
    release = f"{registry.folder}/{now.release}"
    return Rollback(contract=name, student=now.student, fingerprint=now.fingerprint, release=release, before=before.student)


def job_of(deployment: str) -> str:
    """Return the job that makes a student, such as `s`, or an export, such as `s.q8_0`."""
    student, _, export = deployment.partition(".")
    return f"exports/{student}/{export}" if export else f"students/{student}"


def _choose(gate: GateDecision, terms: Terms) -> str:
    student = terms.student
    if student is not None and student not in gate.numbers:
        raise MissingArtifact(f"the report has no student {student!r}; it has {', '.join(sorted(gate.numbers)) or 'none'}.")
    eligible = [student] if student else list(gate.numbers)
    if gate.winner in eligible:
        return gate.winner
    passing = [name for name in gate.passing if name in eligible]
    if passing:
        return passing[0]
    open_ones = [name for name in gate.undecided if name in eligible]
    if terms.undecided and len(open_ones) == 1:
        return open_ones[0]
    raise GateRefused(_refusal(gate, eligible, open_ones, terms))


def _refusal(gate: GateDecision, eligible: Sequence[str], open_ones: Sequence[str], terms: Terms) -> str:
    lines = [f"  {name}: {explain(number)}" for name in eligible for number in gate.refusals.get(name, ())]
    lines += [f"  {name}: {gate.because[name]}" for name in eligible if name in gate.refusals and name in gate.because]
    lines += [f"  {name}: {line}" for name in open_ones for line in undecided_lines(gate, name)]
    who = f"student {terms.student!r}" if terms.student else f"{len(eligible)} student(s)"
    others = f" {', '.join(gate.passing)} would pass." if gate.passing else ""
    what = "is undecided on" if open_ones and len(open_ones) == len(eligible) else "refused"
    end = f"The champion is unchanged.{others} Improve the student, or lower the requirements in `gate`."
    if any(number.detail == UNTESTED for name in open_ones for number in gate.undecided.get(name, ())):
        end += " To test it, delete the folder `reports` of the run and run again."
    if open_ones and terms.undecided:
        end += f" Name the undecided one that you mean: --student {open_ones[0]}."
    elif open_ones:
        end += (
            f" To decide {' and '.join(open_ones)}, add independent prompts to the holdout; to promote an undecided student all "
            "the same: --undecided --why TEXT; to compare point values: --point."
        )
    return "\n".join([f"the gate {what} {who}:", *lines, end])


def _check_student(reports: Artifact, trained: Artifact, name: str) -> None:
    evaluated = reports.record.inputs.get(job_of(name))
    if evaluated != trained.fingerprint:
        raise RecipeMismatch(
            f"{reports.folder} was made on {name} {str(evaluated)[:12]}, but {trained.folder} holds {trained.fingerprint[:12]}. "
            f"Delete {reports.folder} and run again, so that the evaluated student is the promoted one."
        )


def _check_decontamination(run: Folder, contract: Contract, trained: Artifact) -> None:
    """Raise GateRefused unless the training set of `trained` was compared with the report's holdout and the contract's lists."""
    name = trained.record.job
    artifacts = {job: workspace.finished(run, job) for job in ("prompts", "dataset", "reports")} | {name: trained}
    inputs = {job: ArtifactInputs(each.fingerprint, each.record.inputs) for job, each in artifacts.items()}
    sections = contract.curation.decontaminate.lists
    lists = evaluation_lists.hashes(contract, workspace.reopen(run.url).root) if sections else {}
    metrics = artifacts["dataset"].record.metrics.get("decontamination")
    compared = metrics and Compared(metrics["holdout"], metrics["files"])
    holdout = artifacts["prompts"].table("holdout").digest
    reasons = [*staleness.mismatched_inputs(name, inputs), *staleness.stale(compared, holdout=holdout, lists=lists)]
    if reasons:
        lines = "".join(f"\n  {reason}" for reason in reasons)
        raise GateRefused(
            f"the decontamination report does not cover {name}, it is not released:{lines}\n"
            f"Delete dataset, capture, students, exports and reports in {run}, as far as they are there, then: "
            f"rayleigh run CONTRACT {run}. No teacher is asked again."
        )


def _files(run: Folder, contract: Contract, report: Report, chosen: tuple[str, GateDecision, Ground]) -> dict[str, str | bytes]:
    student, decision, ground = chosen
    trained = job_of(student.partition(".")[0])
    names = dict.fromkeys(["prompts", "candidates", "dataset", trained, job_of(student), "reports"])
    artifacts = {name: workspace.finished(run, name) for name in names}
    entries = {
        name: LineageEntry(folder=str(each.folder), fingerprint=each.fingerprint, **each.record.model_dump(include=TRACED))
        for name, each in artifacts.items()
    }
    provenance = Provenance(
        contract=contract.name,
        student=contract.deployment(student)[0],
        deployment=student,
        teachers=contract.teachers.models,
        licences=count_values(pieces(artifacts, "prompts", "prompts", ["licence"]), "licence"),
        examples=count_values(pieces(artifacts, "dataset", "examples", ["split"]), "split"),
        labels=contract.prompts.holdout.labels,
        lineage=entries,
    )
    return {
        "card.md": card(contract.specialist, provenance, report=report, gate=contract.gate, decision=decision, why=ground.why),
        "lineage.json": json.dumps({name: entry.model_dump(mode="json") for name, entry in entries.items()}, indent=1),
        CONTRACT: contract.model_dump_json(indent=1),
        REPORT: report.model_dump_json(indent=1),
        learnt.FILE: learnt.write(_learnt(artifacts)),
        MANIFEST: _manifest(contract, report, artifacts[job_of(student)], artifacts["reports"]),
    }


def _manifest(contract: Contract, report: Report, made: Artifact, reports: Artifact) -> bytes:
    """Return `deployment.json`."""
    student = made.record.job.partition("/")[2].replace("/", ".")
    content = manifest(contract, student, made.record.files, reports.record.packages, report)
    return content.model_dump_json(indent=1).encode()


def _learnt(artifacts: dict[str, Artifact]) -> pa.Table:
    examples = artifacts["dataset"].read("examples", EXAMPLE, ["prompt_id", "split"])
    prompts = artifacts["prompts"].read("prompts", PROMPT, list(learnt.COLUMNS))
    return learnt.learnt(examples, prompts)
