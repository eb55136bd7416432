"""What a server keeps of its comparisons in shadow: counts on the disk, and an event in the registry for each change of state."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from engine.contract.serving import Shadow as Section
from engine.errors import RayleighError, StorageError
from engine.records.shadow import ShadowKept, ShadowState, ShadowView
from engine.storage.folder import Folder

log = logging.getLogger(__name__)

RETRY = 10.0  # seconds after which an event that could not be written is tried again

Report = Callable[[ShadowState, ShadowView, Section], None]
"""Writes an event. Called in a thread; may raise RayleighError or OSError."""


class StateFile:
    """The counts of a server's comparisons in a folder, one file for each pair of deployments."""

    def __init__(self, folder: Path) -> None:
        """Raises StorageError: the folder cannot be written, or another server compares in it."""
        self.folder = Folder(str(folder / "states"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(folder / "states.lock", timeout=0)
            self.lock.acquire()
        except Timeout:
            raise StorageError(f"{folder}: another server compares in shadow here. Give each its own --records.") from None
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written: {error}. Choose another folder for the records.") from None

    def read(self, state: ShadowState) -> ShadowKept | None:
        """Return what is kept of the comparison of these deployments; None if there is nothing, or it is damaged."""
        if not self.folder.exists(name := _name(state)):
            return None
        try:
            return ShadowKept.model_validate_json(self.folder.read(name))
        except ValidationError:
            log.warning("%s/%s is damaged: the comparison begins anew", self.folder, name)
            return None

    def write(self, kept: ShadowKept) -> None:
        """Keep a state.

        Raises:
            StorageError: it cannot be written.
        """
        self.folder.write(_name(kept.state), kept.model_dump_json(indent=1).encode())

    def close(self) -> None:
        """Let another server compare here."""
        self.lock.release()


class Comparison:
    """Keeps the state of the comparison that goes on, and reports its changes. A disk or registry that refuses is tried again."""

    def __init__(self, files: StateFile, report: Report) -> None:
        self.files, self.report = files, report
        self.kept = ShadowKept()
        self.last, self.retry_at = "", 0.0
        self.lock = asyncio.Lock()

    @property
    def is_behind(self) -> bool:
        """Whether the registry lacks the last change of state."""
        return bool(self.last) and self.kept.reported != self.last

    async def begin(self, state: ShadowState) -> ShadowState:
        """Return the kept state of these deployments, or `state`."""
        async with self.lock:
            self.kept = await asyncio.to_thread(self.files.read, state) or ShadowKept(state=state)
            return self.kept.state

    async def save(self, state: ShadowState, view: ShadowView, section: Section) -> None:
        """Report a changed word, and write the state if anything changed."""
        async with self.lock:
            self.last = state.word
            reported, now = self.kept.reported, time.monotonic()
            if state.word != reported and now >= self.retry_at:
                try:
                    await asyncio.to_thread(self.report, state, view, section)
                    reported = state.word
                except (RayleighError, OSError) as error:
                    self.retry_at = now + RETRY
                    log.warning("the registry cannot be told that the shadow says %r: %s", state.word, error)
            if (kept := ShadowKept(state=state, reported=reported)) != self.kept:
                try:
                    await asyncio.to_thread(self.files.write, kept)
                    self.kept = kept
                except (RayleighError, OSError) as error:
                    self.kept = self.kept.model_copy(update={"reported": reported})  # no event twice
                    log.warning("the counts of the shadow cannot be written, they are tried again: %s", error)


def _name(state: ShadowState) -> str:
    names = (state.challenger, state.champion, state.reference)
    return f"{hashlib.sha256(' '.join(names).encode()).hexdigest()[:16]}.json"
