"""What must survive a crash besides weights and optimizer: one JSON file in every checkpoint."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.contract.students import EarlyStop

FILE = "progress.json"


@dataclass
class Progress:
    """How far a run is. Floats are written so that they read back bit-equal."""

    step: int = 0
    tokens: int = 0
    """Target tokens learned so far."""
    seconds: float = 0.0
    """Spent in training by all attempts, up to the last checkpoint."""
    best: float | None = None
    """Lowest validation loss, nats per target token."""
    best_step: int = 0
    waited: int = 0
    """Validations since the best one."""
    stopped_early: bool = False
    is_over: bool = False
    resumed_from: list[int] = field(default_factory=list)
    """Steps at which a later attempt went on."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """What setup found: parameters, examples, examples too long."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """STEP rows without the student's name."""

    def grade(self, loss: float, stop: EarlyStop | None) -> None:
        """Note the validation loss of now: is it the best so far, and if not, has the patience run out?"""
        if self.best is None or loss < self.best - (stop.min_delta if stop else 0.0):
            self.best, self.best_step, self.waited = loss, self.step, 0
        else:
            self.waited += 1
            self.stopped_early = stop is not None and self.waited >= stop.patience

    def write(self, folder: Path) -> None:
        """Write into the checkpoint `folder`."""
        (folder / FILE).write_text(json.dumps(asdict(self)))

    @staticmethod
    def read(folder: Path) -> "Progress":
        """Return what `write` wrote."""
        return Progress(**json.loads((folder / FILE).read_text()))
