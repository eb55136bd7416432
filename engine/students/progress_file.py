"""How far a run is, told from the worker to the driver through a small file beside the checkpoints."""

import json
import time
from collections.abc import Callable
from typing import NamedTuple

from engine.storage.shards import Folder
from engine.students.checkpoint_state import Progress

WRITE_SECONDS = 2.0
TELL_SECONDS = 10.0


class ProgressSnapshot(NamedTuple):
    """One look at a run."""

    step: int
    steps: int  # of the whole run
    tokens: int  # target tokens so far
    loss: float
    best: float | None  # validation loss


class ProgressFile:
    """The file. Rank 0 writes it, the driver reads it."""

    def __init__(self, storage: str, name: str) -> None:
        self.folder, self.name = Folder(f"{storage}/{name}"), "note.json"
        self.written = 0.0

    def write(self, progress: Progress, steps: int) -> None:
        """Leave a note, unless the last one is younger than WRITE_SECONDS."""
        now = time.monotonic()
        if now - self.written >= WRITE_SECONDS:
            self.written = now
            note = ProgressSnapshot(progress.step, steps, progress.tokens, progress.curve[-1]["loss"], progress.best)
            self.folder.write(self.name, json.dumps(note._asdict()).encode())

    def read(self) -> ProgressSnapshot | None:
        """Return the latest note."""
        return ProgressSnapshot(**json.loads(self.folder.read(self.name))) if self.folder.exists(self.name) else None


class Meter:
    """Tells a person how a run goes: step, loss, target tokens per second, time left."""

    def __init__(self, student: str, tell: Callable[[str], None]) -> None:
        self.student, self.progress = student, tell
        self.first: ProgressSnapshot | None = None
        self.began = self.told = time.monotonic()
        self.last_step = 0

    def __call__(self, note: ProgressSnapshot | None) -> None:
        """Take the latest note; tell it if it is news and TELL_SECONDS have passed."""
        now = time.monotonic()
        if note is None or note.step == self.last_step:
            return
        if self.first is None:
            self.first, self.began = note, now
        if now - self.told >= TELL_SECONDS:
            self.told, self.last_step = now, note.step
            self.progress(self.line(note, self.first, now - self.began))

    def line(self, note: ProgressSnapshot, first: ProgressSnapshot, spent: float) -> str:
        """Return `note` in words; `spent` seconds lie between it and `first`."""
        words = [f"students/{self.student}: step {note.step} of {note.steps}", f"loss {note.loss:.3f}"]
        if note.best is not None:
            words.append(f"best validation {note.best:.3f}")
        if note.step > first.step:
            left = spent / (note.step - first.step) * (note.steps - note.step)
            words += [f"{(note.tokens - first.tokens) / spent:.0f} target tokens/s", f"about {left:.0f} s left"]
        return ", ".join(words)
