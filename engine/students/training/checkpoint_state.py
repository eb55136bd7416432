"""The part of a checkpoint besides weights and optimizer: counters, best validation, loss curve, as one JSON file."""

import math
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from engine.contract.students import EarlyStop
from engine.records.student import Resized, TrainingSetup
from engine.rows import Row

FILE = "progress.json"


class Progress(BaseModel):
    """How far a training is. Floats are written so that they read back bit-equal, NaN included."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    step: int = 0
    """Optimizer steps done."""
    tokens: int = 0
    """Target tokens learned so far."""
    seconds: float = 0.0
    """Seconds of training in all attempts, up to the last checkpoint."""
    best: float | None = None
    """Lowest validation loss that is a number, nats per target token; None while there was none."""
    best_step: int = 0
    waited: int = 0
    """Validations since the best one."""
    stopped_early: bool = False
    is_over: bool = False
    resumed_from: list[int] = []
    """Steps from which a later attempt continued."""
    workers: int = 0
    """Data-parallel workers of the last attempt; 0 = an earlier version did not say."""
    resized: list[Resized] = []
    """Where an attempt went on with another number of workers than the one before."""
    setup: TrainingSetup | None = Field(default=None, validation_alias=AliasChoices("setup", "facts"))  # the older name
    curve: list[Row] = []
    """STEP rows without the student's name."""

    def update_best(self, loss: float, stop: EarlyStop | None) -> None:
        """Take the validation loss of this step: update the best one, or count it against the patience of `stop`.

        A loss that is no finite number is never the best one.
        """
        best = self.best if self.best is not None and math.isfinite(self.best) else math.inf
        if loss < best - (stop.min_delta if stop else 0.0):
            self.best, self.best_step, self.waited = loss, self.step, 0
        else:
            self.waited += 1
            self.stopped_early = stop is not None and self.waited >= stop.patience

    def write(self, folder: Path) -> None:
        """Write into the checkpoint `folder`."""
        (folder / FILE).write_text(self.model_dump_json())

    @staticmethod
    def read(folder: Path) -> "Progress":
        """Return what `write` wrote."""
        return Progress.model_validate_json((folder / FILE).read_text())
