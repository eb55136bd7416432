"""A deployment: weights, tokenizer, prompt, decoding, threshold and fallback as one thing with one fingerprint.

`rayleigh promote` writes it into the release as `deployment.json`. A server builds every request from it with the code that built
the evaluator's requests (`EvalTarget.request`), so an answer that is served is one that was measured. A release folder is all that
it needs.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from engine.contract.budget import Price
from engine.contract.contract import Contract
from engine.contract.evaluation import Nearest, Rules
from engine.contract.models import LlamaCppModel, Model
from engine.contract.prompts import Entity
from engine.contract.specialist import TaskUnit
from engine.contract.teachers import Shots, Thinks
from engine.errors import StorageError
from engine.evaluation.evaluator import EvalTarget
from engine.records.base import Json
from engine.records.deployment import AskedModel, DeploymentManifest
from engine.records.record import FileEntry
from engine.storage.folder import Folder

MANIFEST = "deployment.json"
VERSION = 1
MODEL = "model"  # folder of the weights in a release
PLACES = {"path", "packages"}  # of a model's section: where it is does not change what it answers
AGAIN = "Promote the student again from its run, or restore the folder from a copy"

_model: TypeAdapter[Model] = TypeAdapter(Model)
_kinds: TypeAdapter[tuple[Entity, ...]] = TypeAdapter(tuple[Entity, ...])


class Measured(NamedTuple):
    """What a manifest is made of: the targets are those of the evaluation."""

    student: EvalTarget
    files: tuple[FileEntry, ...]
    """Files below `model/`."""
    packages: Mapping[str, str]
    """Package -> version of the evaluation."""
    fallback: EvalTarget | None = None


@dataclass(frozen=True)
class Deployment:
    """A loaded manifest; picklable."""

    manifest: DeploymentManifest
    folder: str
    """Path or URL of the release."""

    @property
    def fingerprint(self) -> str:
        """What identifies everything that an answer depends on."""
        return self.manifest.fingerprint

    @property
    def units(self) -> dict[str, TaskUnit]:
        """Task units by name."""
        return dict(self.student().units)

    @property
    def redact(self) -> tuple[Entity, ...]:
        """Kinds of personal data that are replaced in a request."""
        return _kinds.validate_python(self.manifest.redact)

    @property
    def price(self) -> Price:
        """Prices of the contract."""
        return Price.model_validate(self.manifest.price)

    def student(self, *, packages: str | None = None) -> EvalTarget:
        """Return the student as it was evaluated, with the weights of this release.

        `packages` is the folder of llama.cpp's packages on this machine, for an export that needs them.
        """
        weights = f"{self.folder}/{MODEL}"
        place = {"path": weights, **({"packages": packages} if self.manifest.student.model["type"] == "llama_cpp" else {})}
        return _target(self.manifest.student, place, weights)

    def fallback(self) -> EvalTarget | None:
        """Return the teacher to which requests are handed on, as it was evaluated; None if the manifest names none."""
        asked = self.manifest.fallback
        return _target(asked, {}, None) if asked else None


def manifest_of(contract: Contract, measured: Measured) -> DeploymentManifest:
    """Return the manifest of a student that was evaluated as `measured.student`."""
    content = DeploymentManifest(
        version=VERSION,
        contract=contract.name,
        student=_asked(measured.student, leave_out=PLACES),
        fallback=_asked(measured.fallback, leave_out=set()) if measured.fallback else None,
        answer_above=contract.specialist.niche.answer_above,
        redact=contract.prompts.redact,
        max_chars=contract.prompts.max_chars,
        price=contract.budget.price.model_dump(mode="json"),
        packages=dict(measured.packages),
        files=tuple(sorted(measured.files, key=lambda file: file.path)),
        fingerprint="",
    )
    return content.model_copy(update={"fingerprint": fingerprint_of(content.model_dump(mode="json"))})


def fingerprint_of(content: Json) -> str:
    """Return the SHA-256 of a manifest's JSON without its own fingerprint; keys that this version does not know count, too."""
    rest = {key: value for key, value in content.items() if key != "fingerprint"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def certified_part(manifest: DeploymentManifest) -> str:
    """Return the hash of what the student's answers depend on: weights, tokenizer, prompt, decoding, redaction.

    A certificate is bound to it. Prices, the fallback and the contract's wishes are left out: they change no answer of the student.
    """
    files = sorted((file.path, file.sha256) for file in manifest.files)
    return fingerprint_of({"student": manifest.student.model_dump(mode="json"), "redact": sorted(manifest.redact), "files": files})


def load(folder: Folder) -> Deployment:
    """Return the deployment of the release in `folder`, once every file is what the manifest says.

    Raises:
        StorageError: the manifest is missing, damaged, of a version that this program does not know, or does not have its own
            fingerprint; or a file of the model is missing, was changed, or is not listed.
    """
    return verified(Deployment(read(folder), folder.url))


def read(folder: Folder) -> DeploymentManifest:
    """Return the manifest in `folder`; no other file is read.

    Raises:
        StorageError: as `load`, but for the files of the model.
    """
    where = f"{folder}/{MANIFEST}"
    if not folder.exists(MANIFEST):
        raise StorageError(f"{where}: is missing, and without it nothing is known of how the model was measured. {AGAIN}.")
    try:
        content = json.loads(folder.read(MANIFEST))
    except ValueError as error:
        raise StorageError(f"{where}: is no JSON: {error}. {AGAIN}.") from None
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise StorageError(
            f"{where}: found version {version!r}, this program knows {VERSION}. Serve it with the program that wrote it."
        )
    try:
        manifest = DeploymentManifest.model_validate(content)
        Deployment(manifest, folder.url).student()
    except (ValidationError, KeyError) as error:
        why = " ".join(str(error).split())[:300]
        raise StorageError(f"{where}: cannot be read: {why}. {AGAIN}.") from None
    if (found := fingerprint_of(content)) != manifest.fingerprint:
        raise StorageError(
            f"{where}: says fingerprint {manifest.fingerprint[:16]}, its content has {found[:16]}: it was changed. {AGAIN}."
        )
    return manifest


def verified(deployment: Deployment) -> Deployment:
    """Return `deployment` once each file of its model is what the manifest says.

    Raises:
        StorageError: a file is missing, was changed, or is not listed: a further chat template would change every prompt.
    """
    folder = Folder(deployment.folder)
    listed = {file.path: file for file in deployment.manifest.files}
    found = {f"{MODEL}/{name}" for name in (folder / MODEL).files()}
    for path in sorted(listed.keys() | found):
        if path not in listed:
            raise StorageError(f"{folder}/{path}: is not in {MANIFEST}, so the model was not measured with it. Remove the file.")
        if path not in found:
            raise StorageError(f"{folder}/{path}: is missing, {MANIFEST} lists it. {AGAIN}.")
        if (file := folder.measure(path)) != listed[path]:
            said = listed[path].sha256[:16]
            raise StorageError(
                f"{folder}/{path}: found sha256 {file.sha256[:16]}, {MANIFEST} says {said}: it was changed. {AGAIN}."
            )
    return deployment


def model_files(files: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """Return those of an artifact's or a release's files that are the model."""
    return tuple(file for file in files if file.path.startswith(f"{MODEL}/"))


def _asked(target: EvalTarget, *, leave_out: set[str]) -> AskedModel:
    assert not isinstance(target.model, Rules | Nearest), "a baseline is not served"
    leave_out = leave_out | ({"packages"} if isinstance(target.model, LlamaCppModel) else set())
    return AskedModel(
        name=target.name,
        role=target.role,
        model=target.model.model_dump(mode="json", exclude=leave_out),
        units=tuple(unit.model_dump(mode="json") for unit in target.units.values()),
        systems=dict(target.systems),
        shots=target.shots.model_dump(mode="json"),
        structured=target.structured,
        thinks=target.thinks.model_dump(mode="json") if target.thinks else None,
        max_tokens=target.max_tokens,
    )


def _target(asked: AskedModel, place: Mapping[str, str | None], weights: str | None) -> EvalTarget:
    units = [TaskUnit.model_validate(unit) for unit in asked.units]
    return EvalTarget(
        name=asked.name,
        role="teacher" if asked.role == "teacher" else "student",
        model=_model.validate_python({**asked.model, **place}),
        units={unit.name: unit for unit in units},
        folder=weights,
        systems=asked.systems,
        shots=Shots.model_validate(asked.shots),
        structured=asked.structured,
        thinks=Thinks.model_validate(asked.thinks) if asked.thinks else None,
        max_tokens=asked.max_tokens,
    )
