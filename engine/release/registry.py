"""Registry of champions per contract; every promotion and rollback is kept.

    <registry>/<contract>/history/<number>.json      every promotion and rollback, numbered without a gap
    <registry>/<contract>/champion.json              a copy of the event that made the champion, for people
    <registry>/<contract>/looks/<part>/<fingerprint>.json   a student that was looked at on a closed part of the holdout
    <registry>/<contract>/releases/<fingerprint>/    a student's model folder, card.md, lineage.json, contract.json, report.json

The history decides: an event is made by creating the file of the next number, which of several writers one does (`Folder.create`);
the others read the history again. So it is linear, and a process killed at any moment leaves either the state before its event, or
that after it. `release.json` is written last and completes a release; its event comes after that. Events of an earlier version have
their time as a name; as long as there is no numbered one, champion.json decides.
"""

import re
from typing import NamedTuple

from pydantic import ValidationError

from engine.errors import MissingArtifact, StorageError
from engine.records.base import Json, Record
from engine.records.gate import Word
from engine.records.release import LookEvent, RegistryEvent, ReleaseManifest
from engine.release.landing import RELEASE, Package, land
from engine.release.withdrawals import Withdrawals, stamp
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder

CHAMPION = "champion.json"
REPORT, CONTRACT = "report.json", "contract.json"  # files of the reports artifact that a release keeps
NUMBERED = re.compile(r"history/(\d{8})\.json")


class Head(NamedTuple):
    """The end of the history."""

    number: int  # of the last event; 0 if none is numbered
    champion: RegistryEvent | None  # the event that made the champion


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
        self.withdrawals = Withdrawals(folder)

    @property
    def champion(self) -> RegistryEvent | None:
        """The event that made the current champion, or None.

        Raises:
            StorageError: an event cannot be read.
        """
        return self._head().champion

    def latest(self) -> str:
        """Return the name of the last event, "" without one: another name, another champion. One listing, no file is read."""
        return next(reversed(self._events()), "")

    def history(self) -> list[RegistryEvent]:
        """Return all events, oldest first.

        Raises:
            StorageError: an event cannot be read.
        """
        return [self._read(name) for name in self._events()]

    def model_folder(self, event: RegistryEvent) -> Folder:
        """Return the folder with the weights of a released student."""
        return self.folder / event.release / "model"

    def read_file(self, event: RegistryEvent, name: str) -> str:
        """Return the text of a file of the release, such as `contract.json`."""
        return self.folder.read(f"{event.release}/{name}").decode()

    def promote(self, artifact: Artifact, package: Package, ground: Ground = UNKNOWN) -> RegistryEvent:
        """Copy the student and make it the champion; return the event. If it is the champion already, there is no further event.

        A release of the student that is there is held against what is promoted, and written again if it was damaged or is of an
        earlier report. The event keeps the `ground` of the decision.

        Raises:
            GateRefused: it learnt from rows that were withdrawn.
            StorageError: a file does not match the record of `artifact`, or the registry cannot be written.
        """
        release = f"releases/{package.fingerprint}"
        self.withdrawals.refuse(package)
        land(artifact, package, self.folder / release)
        while True:
            number, current = self._head()
            if current and current.fingerprint == package.fingerprint:
                return current
            event = RegistryEvent(
                **self._stamp(), kind="promote", student=package.student, fingerprint=package.fingerprint, release=release,
                before=current.id if current else None, **ground._asdict(),
            )  # fmt: skip
            if self._append(number + 1, event):
                return event

    def rollback(self) -> tuple[RegistryEvent, RegistryEvent]:
        """Return to the previous champion; return the events of the champion before and after the rollback.

        Raises:
            MissingArtifact: there is no champion, or none before it.
            GateRefused: the previous champion learnt from rows that were withdrawn since.
            StorageError: the release of the previous champion is incomplete, or a file of it was changed.
        """
        while True:
            number, current = self._head()
            if current is None:
                raise MissingArtifact(f"{self.folder}: there is no champion to roll back. Promote one: rayleigh promote RUN.")
            if current.before is None:
                first = f"{current.student} ({current.fingerprint[:12]})"
                raise MissingArtifact(f"{self.folder}: {first} is the first champion; there is none before it to roll back to.")
            previous = self._event(current.before)
            if previous is None or not self.folder.exists(f"{previous.release}/{RELEASE}"):
                raise StorageError(
                    f"{self.folder}: the release of event {current.before}, the previous champion, is incomplete. Promote instead."
                )
            self.verify(previous)
            self.withdrawals.refuse_release(self.folder / previous.release, previous.student)
            event = RegistryEvent(
                **self._stamp(), kind="rollback", student=previous.student, fingerprint=previous.fingerprint,
                release=previous.release, from_student=current.student, from_fingerprint=current.fingerprint,
                from_id=current.id, to_id=previous.id,
            )  # fmt: skip
            if self._append(number + 1, event):
                return current, previous

    def verify(self, event: RegistryEvent) -> None:
        """Hold all files of a release against its manifest.

        Raises:
            StorageError: a file is missing or was changed, or there is no manifest.
        """
        folder = self.folder / event.release
        try:
            manifest = ReleaseManifest.model_validate_json(folder.read(RELEASE))
        except ValidationError:
            raise StorageError(f"{folder}/{RELEASE}: is damaged: promote the student again from its run.") from None
        for file in manifest.files:
            if (found := folder.measure(file.path)) != file:
                raise StorageError(
                    f"{folder}/{file.path}: found sha256 {found.sha256[:16]}, its manifest says {file.sha256[:16]}. "
                    "The release was changed: promote the student again from its run."
                )

    def _head(self) -> Head:
        numbers = [int(found[1]) for name in self._events() if (found := NUMBERED.fullmatch(name))]
        if not numbers:
            return Head(0, self._read(CHAMPION) if self.folder.exists(CHAMPION) else None)
        last = self._read(f"history/{numbers[-1]:08d}.json")
        return Head(numbers[-1], self._event(last.to_id) if last.to_id else last)

    def _events(self) -> list[str]:
        """Return the names of all events, the oldest first: those of an earlier version, then the numbered ones."""
        names = [f"history/{name}" for name in (self.folder / "history").files(deep=False) if name.endswith(".json")]
        return sorted(names, key=lambda name: (NUMBERED.fullmatch(name) is not None, name))

    def _event(self, wanted: str) -> RegistryEvent | None:
        return next((event for event in map(self._read, reversed(self._events())) if event.id == wanted), None)

    def look(self, student: str, fingerprint: str, part: str) -> int:
        """Record that the student was looked at on the closed `part` of the holdout; return how many students were so far.

        The same student again is no further look: nothing new is learnt from it.
        """
        folder = f"looks/{part[:16]}"
        name = f"{folder}/{fingerprint[:16]}.json"
        self.folder.create(name, _text(LookEvent(**self._stamp(), student=student, fingerprint=fingerprint, part=part)))
        return sum(file.startswith(f"{folder}/") for file in self.folder.files())

    def _stamp(self) -> Json:
        return {"contract": self.contract, **stamp()}

    def _append(self, number: int, event: RegistryEvent) -> bool:
        """Make `event` that of `number`; return False if another process has made one."""
        if not self.folder.create(f"history/{number:08d}.json", _text(event)):
            return False
        head = Head(0, None)
        while head != (head := self._head()):  # again if another event came while this one was copied
            if head.champion:
                self.folder.write(CHAMPION, _text(head.champion))
        return True

    def _read(self, name: str) -> RegistryEvent:
        try:
            return RegistryEvent.model_validate_json(self.folder.read(name))
        except ValidationError as error:
            why = str(error).splitlines()[2].strip()
            raise StorageError(
                f"{self.folder}/{name}: is not an event: {why}. Restore the file from a copy of the registry."
            ) from None


def default_registry(run: Folder) -> Folder:
    """Return the registry next to the run folders: `runs/registry` for `runs/smoke`."""
    parent, _, _ = run.url.rpartition("/")
    return Folder(f"{parent or '.'}/registry")


def _text(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode()
