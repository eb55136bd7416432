"""Champions by contract, with every release and every change of mind kept.

    <registry>/<contract>/champion.json              the event that holds, replaced in one step
    <registry>/<contract>/history/<time>-<id>.json   every promotion and rollback, only ever added to
    <registry>/<contract>/releases/<fingerprint>/    a student's model folder, card.md, lineage.json, contract.json, report.json

A release is whole once its `release.json` lands; the pointer moves after that. A kill in between leaves the old champion.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.errors import MissingArtifact, StorageError
from engine.storage.artifact import Artifact
from engine.storage.shards import Folder

CHAMPION, RELEASE = "champion.json", "release.json"
REPORT, CONTRACT = "report.json", "contract.json"  # papers that the report carries and a release keeps
CHUNK = 2**22

Event = dict[str, Any]


class Package(NamedTuple):
    """What a release holds beside the model's weights."""

    student: str
    fingerprint: str
    papers: Mapping[str, str]  # file name -> text


class Registry:
    """The champions of one contract."""

    def __init__(self, folder: Folder, contract: str) -> None:
        self.folder, self.contract = folder / contract, contract

    @property
    def champion(self) -> Event | None:
        """The event that made today's champion, or None.

        Keys: id, kind (promote), contract, student, fingerprint, release (path below the registry's contract folder), time, before
        (id of the event that a rollback returns to, or None).
        """
        return self._json(CHAMPION) if self.folder.exists(CHAMPION) else None

    def history(self) -> list[Event]:
        """Return all events, oldest first."""
        return [self._json(name) for name in self.folder.files() if name.startswith("history/")]

    def model_folder(self, event: Event) -> Folder:
        """Return where the weights of a released student lie."""
        return self.folder / event["release"] / "model"

    def paper(self, event: Event, name: str) -> str:
        """Return the text of a file of the release, such as `contract.json`."""
        return self.folder.read(f"{event['release']}/{name}").decode()

    def promote(self, artifact: Artifact, package: Package) -> Event:
        """Copy the student and make it the champion. A student that is the champion already stays so, without a new event.

        Raises:
            StorageError: a file does not match the record of `artifact`, or the registry cannot be written.
        """
        now = self.champion
        if now and now["fingerprint"] == package.fingerprint:
            return now
        release = f"releases/{package.fingerprint}"
        if not self.folder.exists(f"{release}/{RELEASE}"):
            self._copy(artifact, package, self.folder / release)
        event = self._event("promote", package.student, package.fingerprint, release=release, before=now["id"] if now else None)
        self._keep(event)
        self._point(event)
        return event

    def rollback(self) -> tuple[Event, Event]:
        """Return to the champion before; give (the one left, the one that holds now).

        Raises:
            MissingArtifact: there is no champion, or none before it.
        """
        now = self.champion
        if now is None:
            raise MissingArtifact(f"{self.folder}: there is no champion to roll back. Promote one: rayleigh promote RUN.")
        if now["before"] is None:
            first = f"{now['student']} ({now['fingerprint'][:12]})"
            raise MissingArtifact(f"{self.folder}: {first} is the first champion; there is none before it to roll back to.")
        before = next((event for event in self.history() if event["id"] == now["before"]), None)
        if before is None or not self.folder.exists(f"{before['release']}/{RELEASE}"):
            raise StorageError(f"{self.folder}: event {now['before']}, the champion before, is not whole. Promote instead.")
        event = self._event("rollback", before["student"], before["fingerprint"], release=before["release"], before=None)
        self._keep({**event, "from_student": now["student"], "from_fingerprint": now["fingerprint"], "from_id": now["id"]})
        self._point(before)
        return now, before

    def _event(self, kind: str, student: str, fingerprint: str, *, release: str, before: str | None) -> Event:
        stamp = time.time_ns()
        return {
            "id": uuid.uuid4().hex[:12],
            "kind": kind,
            "contract": self.contract,
            "student": student,
            "fingerprint": fingerprint,
            "release": release,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp // 10**9)) + f".{stamp % 10**9 // 1000:06d}Z",
            "before": before,
        }

    def _keep(self, event: Event) -> None:
        name = event["time"].replace(":", "").replace("-", "")
        self.folder.write(f"history/{name}-{event['id']}.json", _text(event))

    def _point(self, event: Event) -> None:
        self.folder.write(CHAMPION, _text(event))

    def _copy(self, artifact: Artifact, package: Package, target: Folder) -> None:
        """Copy model and papers; `release.json`, which lists them, lands last."""
        listed = {file.path: file for file in artifact.record.files if file.path.startswith("model/")}
        if not listed:
            raise StorageError(f"{artifact.folder}: its record lists no file below model/. Delete the artifact and run again.")
        target.remove()  # what a crash left of an earlier attempt
        for path, file in listed.items():
            found = _copy_file(artifact.folder, target, path)
            if found != file.sha256:
                target.remove()
                raise StorageError(
                    f"{artifact.folder}/{path}: found sha256 {found[:16]}, its record says {file.sha256[:16]}. "
                    "The file was changed after training: delete the artifact and run again."
                )
        for name, text in package.papers.items():
            target.write(name, text.encode())
        files = [{"path": path, "bytes": file.bytes, "sha256": file.sha256} for path, file in sorted(listed.items())]
        target.write(RELEASE, _text({"student": package.student, "fingerprint": package.fingerprint, "files": files}))

    def _json(self, name: str) -> Event:
        try:
            return json.loads(self.folder.read(name))
        except ValueError as error:
            raise StorageError(f"{self.folder}/{name}: is not JSON: {error}. Restore it from the last of history/.") from None


def beside(run: Folder) -> Folder:
    """Return the registry that stands beside the run folders."""
    parent, _, _ = run.url.rpartition("/")
    return Folder(f"{parent or '.'}/registry")


def _copy_file(source: Folder, target: Folder, path: str) -> str:
    """Copy one file in pieces and return the sha256 of what was read."""
    digest = hashlib.sha256()
    there = f"{target.path}/{path}"
    try:
        target.fs.makedirs(there.rpartition("/")[0], exist_ok=True)
        with source.fs.open(f"{source.path}/{path}", "rb") as read, target.fs.open(there, "wb") as written:
            while piece := read.read(CHUNK):
                digest.update(piece)
                written.write(piece)
    except OSError as error:
        raise StorageError(f"{source}/{path}: cannot be copied to {target}: {error}. Make room, or choose another.") from None
    return digest.hexdigest()


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
