"""Registry of champions per contract; every promotion and rollback is kept.

    <registry>/<contract>/champion.json              event that made the current champion, replaced in one step
    <registry>/<contract>/history/<time>-<id>.json   every promotion and rollback, append only
    <registry>/<contract>/looks/<part>/<fingerprint>.json   a student that was looked at on a closed part of the holdout
    <registry>/<contract>/releases/<fingerprint>/    a student's model folder, card.md, lineage.json, contract.json, report.json

`release.json` is written last and completes a release; `champion.json` changes after that. A process killed in between leaves the
previous champion.
"""

import hashlib
import time
import uuid
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import ValidationError

from engine.errors import MissingArtifact, StorageError
from engine.records.base import Json, Record
from engine.records.gate import Word
from engine.records.release import LookEvent, RegistryEvent, ReleaseManifest
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder

CHAMPION, RELEASE = "champion.json", "release.json"
REPORT, CONTRACT = "report.json", "contract.json"  # files of the reports artifact that a release keeps
CHUNK = 2**22  # bytes


class Package(NamedTuple):
    """What a release holds besides the model's weights."""

    student: str  # or its export, such as s.q8_0
    fingerprint: str
    files: Mapping[str, str]  # file name -> text


class Ground(NamedTuple):
    """Why a student was promoted."""

    word: Word | None = None  # of the gate
    by: str | None = None  # prove or point
    why: str | None = None  # reason of a person for promoting an undecided student


UNKNOWN = Ground()


class Registry:
    """The champions of one contract."""

    def __init__(self, folder: Folder, contract: str) -> None:
        self.folder, self.contract = folder / contract, contract

    @property
    def champion(self) -> RegistryEvent | None:
        """The event that made the current champion, or None.

        Raises:
            StorageError: champion.json cannot be read.
        """
        return self._read(CHAMPION) if self.folder.exists(CHAMPION) else None

    def history(self) -> list[RegistryEvent]:
        """Return all events, oldest first.

        Raises:
            StorageError: an event cannot be read.
        """
        return [self._read(name) for name in self.folder.files() if name.startswith("history/")]

    def model_folder(self, event: RegistryEvent) -> Folder:
        """Return the folder with the weights of a released student."""
        return self.folder / event.release / "model"

    def read_file(self, event: RegistryEvent, name: str) -> str:
        """Return the text of a file of the release, such as `contract.json`."""
        return self.folder.read(f"{event.release}/{name}").decode()

    def promote(self, artifact: Artifact, package: Package, ground: Ground = UNKNOWN) -> RegistryEvent:
        """Copy the student and make it the champion; return the event. If it is the champion already, nothing is written.

        The event keeps the `ground` of the decision.

        Raises:
            StorageError: a file does not match the record of `artifact`, or the registry cannot be written.
        """
        current = self.champion
        if current and current.fingerprint == package.fingerprint:
            return current
        release = f"releases/{package.fingerprint}"
        if not self.folder.exists(f"{release}/{RELEASE}"):
            self._copy(artifact, package, self.folder / release)
        event = RegistryEvent(
            **self._stamp(), kind="promote", student=package.student, fingerprint=package.fingerprint, release=release,
            before=current.id if current else None, **ground._asdict(),
        )  # fmt: skip
        self._append(event)
        self.folder.write(CHAMPION, _text(event))
        return event

    def rollback(self) -> tuple[RegistryEvent, RegistryEvent]:
        """Return to the previous champion; return the events of the champion before and after the rollback.

        Raises:
            MissingArtifact: there is no champion, or none before it.
            StorageError: the release of the previous champion is incomplete.
        """
        current = self.champion
        if current is None:
            raise MissingArtifact(f"{self.folder}: there is no champion to roll back. Promote one: rayleigh promote RUN.")
        if current.before is None:
            first = f"{current.student} ({current.fingerprint[:12]})"
            raise MissingArtifact(f"{self.folder}: {first} is the first champion; there is none before it to roll back to.")
        previous = next((event for event in self.history() if event.id == current.before), None)
        if previous is None or not self.folder.exists(f"{previous.release}/{RELEASE}"):
            raise StorageError(
                f"{self.folder}: the release of event {current.before}, the previous champion, is incomplete. Promote instead."
            )
        self._append(
            RegistryEvent(
                **self._stamp(), kind="rollback", student=previous.student, fingerprint=previous.fingerprint,
                release=previous.release, from_student=current.student, from_fingerprint=current.fingerprint, from_id=current.id,
            )
        )  # fmt: skip
        self.folder.write(CHAMPION, _text(previous))
        return current, previous

    def look(self, student: str, fingerprint: str, part: str) -> int:
        """Record that the student was looked at on the closed `part` of the holdout; return how many students were so far.

        The same student again is no further look: nothing new is learnt from it.
        """
        folder = f"looks/{part[:16]}"
        name = f"{folder}/{fingerprint[:16]}.json"
        if not self.folder.exists(name):
            self.folder.write(name, _text(LookEvent(**self._stamp(), student=student, fingerprint=fingerprint, part=part)))
        return sum(file.startswith(f"{folder}/") for file in self.folder.files())

    def _stamp(self) -> Json:
        now = time.time_ns()
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        return {"id": uuid.uuid4().hex[:12], "contract": self.contract, "time": f"{seconds}.{now % 10**9 // 1000:06d}Z"}

    def _append(self, event: RegistryEvent) -> None:
        name = event.time.replace(":", "").replace("-", "")
        self.folder.write(f"history/{name}-{event.id}.json", _text(event))

    def _copy(self, artifact: Artifact, package: Package, target: Folder) -> None:
        """Copy the model folder and write the other files; `release.json` is written last."""
        files = sorted((file for file in artifact.record.files if file.path.startswith("model/")), key=lambda file: file.path)
        if not files:
            raise StorageError(f"{artifact.folder}: its record lists no file below model/. Delete the artifact and run again.")
        target.remove()  # left by an attempt that was killed
        for file in files:
            sha256 = _copy_file(artifact.folder, target, file.path)
            if sha256 != file.sha256:
                target.remove()
                raise StorageError(
                    f"{artifact.folder}/{file.path}: found sha256 {sha256[:16]}, its record says {file.sha256[:16]}. "
                    "The file was changed after training: delete the artifact and run again."
                )
        for name, text in package.files.items():
            target.write(name, text.encode())
        manifest = ReleaseManifest(student=package.student, fingerprint=package.fingerprint, files=tuple(files))
        target.write(RELEASE, _text(manifest))

    def _read(self, name: str) -> RegistryEvent:
        try:
            return RegistryEvent.model_validate_json(self.folder.read(name))
        except ValidationError as error:
            why = str(error).splitlines()[2].strip()
            raise StorageError(
                f"{self.folder}/{name}: is not an event: {why}. Restore it from the last file of history/."
            ) from None


def default_registry(run: Folder) -> Folder:
    """Return the registry next to the run folders: `runs/registry` for `runs/smoke`."""
    parent, _, _ = run.url.rpartition("/")
    return Folder(f"{parent or '.'}/registry")


def _copy_file(source: Folder, target: Folder, path: str) -> str:
    """Copy one file in chunks and return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    destination = f"{target.path}/{path}"
    try:
        target.fs.makedirs(destination.rpartition("/")[0], exist_ok=True)
        with source.fs.open(f"{source.path}/{path}", "rb") as reader, target.fs.open(destination, "wb") as writer:
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                writer.write(chunk)
    except OSError as error:
        raise StorageError(f"{source}/{path}: cannot be copied to {target}: {error}. Make room, or choose another.") from None
    return digest.hexdigest()


def _text(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode()
