"""Progress of a training from its worker to the driver, through a small file in the folder of the checkpoints."""

import json
import time
from collections.abc import Callable
from typing import NamedTuple

from engine.storage.folder import Folder
from engine.students.training.checkpoint_state import Progress

WRITE_SECONDS = 2.0
REPORT_SECONDS = 10.0


class ProgressSnapshot(NamedTuple):
    """The state of a training at one step."""

    step: int
    steps: int  # of the whole training
    tokens: int  # target tokens so far
    loss: float
    best: float | None  # validation loss
    metric: float | None = None  # of the best model


class ProgressFile:
    """The file. Rank 0 writes it, the driver reads it."""

    def __init__(self, storage: str, name: str) -> None:
        self.folder, self.name = Folder(f"{storage}/{name}"), "snapshot.json"
        self.written = 0.0

    def write(self, progress: Progress, steps: int) -> None:
        """Write a snapshot, at most once in WRITE_SECONDS."""
        now = time.monotonic()
        if now - self.written >= WRITE_SECONDS:
            self.written = now
            loss = progress.curve[-1]["loss"]
            snapshot = ProgressSnapshot(progress.step, steps, progress.tokens, loss, progress.best, progress.best_metric)
            self.folder.write(self.name, json.dumps(snapshot._asdict()).encode())

    def read(self) -> ProgressSnapshot | None:
        """Return the latest snapshot, or None if there is none yet."""
        return ProgressSnapshot(**json.loads(self.folder.read(self.name))) if self.folder.exists(self.name) else None


class ProgressReporter:
    """Turns snapshots into lines for a person: step, loss, target tokens per second, time left."""

    def __init__(self, student: str, progress: Callable[[str], None]) -> None:
        self.student, self.progress = student, progress
        self.first: ProgressSnapshot | None = None
        self.first_time = self.last_time = time.monotonic()
        self.last_step = 0

    def __call__(self, snapshot: ProgressSnapshot | None) -> None:
        """Report `snapshot` if its step is new, at most once in REPORT_SECONDS."""
        now = time.monotonic()
        if snapshot is None or snapshot.step == self.last_step:
            return
        if self.first is None:
            self.first, self.first_time = snapshot, now
        if now - self.last_time >= REPORT_SECONDS:
            self.last_time, self.last_step = now, snapshot.step
            self.progress(self.line(snapshot, self.first, now - self.first_time))

    def line(self, snapshot: ProgressSnapshot, first: ProgressSnapshot, seconds: float) -> str:
        """Return `snapshot` as text; it was taken `seconds` after `first`."""
        parts = [f"students/{self.student}: step {snapshot.step} of {snapshot.steps}", f"loss {snapshot.loss:.3f}"]
        if snapshot.best is not None:
            metric = "" if snapshot.metric is None else f", exact match {snapshot.metric:.3f}"
            parts.append(f"best validation {snapshot.best:.3f}{metric}")
        if snapshot.step > first.step:
            left = seconds / (snapshot.step - first.step) * (snapshot.steps - snapshot.step)
            parts += [f"{(snapshot.tokens - first.tokens) / seconds:.0f} target tokens/s", f"about {left:.0f} s left"]
        return ", ".join(parts)
