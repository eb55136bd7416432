"""How a student is asked, in the evaluation and in service, and the manifest that says so."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.contract.contract import Contract
from engine.contract.exports import AnyExport
from engine.contract.models import EndpointModel, FakeModel, LlamaCppModel, Model, VllmModel
from engine.contract.renames import promoted
from engine.contract.specialist import TaskUnit
from engine.contract.students import Student
from engine.contract.teachers import Teacher
from engine.evaluation.evaluator import EvalTarget
from engine.records.deployment import DeploymentManifest
from engine.records.record import FileEntry
from engine.records.release import ReleaseManifest
from engine.records.report import Report, Role
from engine.release.registry import CONTRACT, RELEASE, REPORT
from engine.rows import PREDICTION
from engine.serving.certify import Holdout
from engine.serving.deployment import MANIFEST, Deployment, Measured, manifest_of, model_files, read
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from engine.tools.toolset import Toolset


class Place(NamedTuple):
    """Where a student's files are, and what its runtime needs besides."""

    folder: str
    """With the weights."""
    packages: str = ""
    """Folder of llama.cpp's packages, for an export that needs them."""


class Asking(NamedTuple):
    """How a student is asked."""

    units: Mapping[str, TaskUnit]
    max_tokens: int
    role: Role = "student"
    toolset: Toolset | None = None


def served(student: Student, export: AnyExport | None, folder: str, packages: str) -> Model:
    """Return the runtime that serves a deployment, whose files are in `folder`."""
    if export is not None and export.type == "gguf":
        return LlamaCppModel(type="llama_cpp", path=folder, packages=packages)
    return VllmModel(type="vllm", path=folder, dtype=student.dtype)


def units_of(contract: Contract) -> dict[str, TaskUnit]:
    """Return the task units of `contract` by name."""
    return {unit.name: unit for unit in contract.specialist.task_units}


def asking(contract: Contract) -> Asking:
    """Return how a student of `contract` is asked in a run of the same contract, but for tools."""
    return Asking(units_of(contract), max(teacher.sampling.max_tokens for teacher in contract.teachers.models))


def student_target(contract: Contract, deployment: str, place: Place, how: Asking) -> EvalTarget:
    """Return a student of `contract` or its export: with the prompt of its training, without shots."""
    student, export = contract.deployment(deployment)
    return EvalTarget(
        name="champion" if how.role == "champion" else deployment,
        role=how.role,
        model=served(student, export, place.folder, place.packages),
        units=how.units,
        folder=place.folder,
        systems={unit.name: unit.instruction for unit in how.units.values()},
        max_tokens=how.max_tokens,
        exported_from=student.name if export and how.role == "student" else None,
        toolset=dataclasses.replace(how.toolset, in_system_text=False) if how.toolset else None,
    )


def manifest(
    contract: Contract, deployment: str, files: Sequence[FileEntry], packages: Mapping[str, str], report: Report | None
) -> DeploymentManifest:
    """Return the manifest of a student of `contract` or its export, whose files are among `files`.

    `packages` are those of the evaluation. The fallback is the teacher that `report` compares the student with.
    """
    student = student_target(contract, deployment, Place("model"), asking(contract))
    compared = report.model(deployment).against_teacher if report else None
    fallback = next(_fallbacks(contract, compared.teacher if compared else ""), None)
    return manifest_of(contract, Measured(student, model_files(files), packages, fallback))


def evaluated_on(reports: Artifact, model: str) -> str:
    """Return the hash of the prompts on which `model` was evaluated, as in a certificate; "" if `reports` does not say."""
    if "predictions" not in reports.record.tables:
        return ""
    rows = reports.read("predictions", PREDICTION, ["model", "prompt_id"]).to_pylist()
    ids = [row["prompt_id"] for row in rows if row["model"] == model]
    return Holdout(ids, ids).fingerprint if ids else ""


def _fallbacks(contract: Contract, name: str) -> Iterator[EvalTarget]:
    """Yield the teacher `name` as it is evaluated, if a server can ask it: references and students of other runs cannot be."""
    for section in contract.teachers.models:
        if section.name == name and isinstance(section.model, VllmModel | LlamaCppModel | EndpointModel | FakeModel):
            yield _teacher(section, contract, section.model)


def _teacher(section: Teacher, contract: Contract, model: VllmModel | LlamaCppModel | EndpointModel | FakeModel) -> EvalTarget:
    units = units_of(contract)
    return EvalTarget(
        name=section.name,
        role="teacher",
        model=model,
        units=units,
        systems={unit: section.system for unit in units},
        shots=section.shots,
        structured=section.structured,
        thinks=section.thinks,
        max_tokens=section.sampling.max_tokens,
    )


def deployment_of(folder: Folder) -> Deployment:
    """Return the deployment of the release in `folder`. Files of weights are not read.

    The manifest of a release of an earlier version is made here, of its contract and its list of files.

    Raises:
        StorageError: the manifest is missing or was changed.
    """
    if folder.exists(MANIFEST) or not folder.exists(RELEASE):
        return Deployment(read(folder), folder.url)
    made = ReleaseManifest.model_validate_json(folder.read(RELEASE))
    if any(file.path == MANIFEST for file in made.files):
        return Deployment(read(folder), folder.url)  # says that it is missing
    contract = Contract.model_validate(promoted(json.loads(folder.read(CONTRACT)))[0])
    report = Report.model_validate_json(folder.read(REPORT)) if folder.exists(REPORT) else None
    lineage = json.loads(folder.read("lineage.json")) if folder.exists("lineage.json") else {}
    packages = lineage.get("reports", {}).get("packages", {})
    return Deployment(manifest(contract, made.student, made.files, packages, report), folder.url)
