"""The part of a checkpoint besides weights and optimizer: counters, best validation, loss curve, as one JSON file."""

import math
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from engine.contract.students import EarlyStop
from engine.records.student import EndedBy, Resized, TrainingSetup
from engine.rows import Row

FILE = "progress.json"


class Progress(BaseModel):
    """How far a training is. Floats are written so that they read back bit-equal, NaN included."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    phase: str = ""
    """What is trained before the training itself, such as `recovery 1 of 2`."""
    step: int = 0
    """Optimizer steps done."""
    tokens: int = 0
    """Target tokens learned so far."""
    seconds: float = 0.0
    """Seconds of training in all attempts, up to the last checkpoint."""
    best: float | None = None
    """Validation loss of the best model, a number, nats per target token; None while there was none."""
    best_metric: float | None = None
    """Metric of the best model, if it is another one than the loss."""
    best_step: int = 0
    waited: int = 0
    """Validations since the best one."""
    stopped_early: bool = False
    decay_start: int | None = None
    """Steps done when the decay of the learning rate began; None before, and where the schedule has none."""
    decayed_by_clock: bool = False
    """Whether the decay began because `max_seconds` leaves just enough time for it."""
    is_over: bool = False
    ended_by: EndedBy = ""
    """What ended the training."""
    resumed_from: list[int] = []
    """Steps from which a later attempt continued."""
    workers: int = 0
    """Data-parallel workers of the last attempt; 0 = an earlier version did not say."""
    resized: list[Resized] = []
    """Where an attempt went on with another number of workers than the one before."""
    setup: TrainingSetup | None = Field(default=None, validation_alias=AliasChoices("setup", "facts"))  # the older name
    curve: list[Row] = []
    """STEP rows without the student's name."""

    def update_best(self, loss: float, stop: EarlyStop | None, metric: float | None = None) -> None:
        """Take the validation of this step: update the best one, or count it against the patience of `stop`.

        A validation whose loss is no finite number is never the best one.
        """
        if self._is_best(loss, metric, stop.min_delta if stop else 0.0):
            self.best, self.best_metric, self.best_step, self.waited = loss, metric, self.step, 0
            return
        self.waited += 1
        if stop is not None and self.waited >= stop.patience:
            self.stopped_early = True

    def _is_best(self, loss: float, metric: float | None, min_delta: float) -> bool:
        best = self.best if self.best is not None and math.isfinite(self.best) else math.inf
        if metric is None or self.best_metric is None:
            return loss < best - min_delta
        if not math.isfinite(loss):
            return False
        return metric > self.best_metric + min_delta or (metric == self.best_metric and loss < best)

    @property
    def has_diverged(self) -> bool:
        """Whether the loss of the last step is no number: its gradient has made the weights none, too."""
        return bool(self.curve) and not math.isfinite(self.curve[-1]["loss"])

    @property
    def measured(self) -> dict[str, float | int | None]:
        """Numbers so far, for a search. `score`: of the best weights, more is better; None before there are any."""
        loss = None if self.best is None or not math.isfinite(self.best) else self.best
        return {
            "score": self.best_metric if loss is None or self.best_metric is not None else -loss,
            "loss": loss,
            "metric": self.best_metric,
            "epochs": self.curve[-1]["epoch"] if self.curve else 0.0,
            "steps": self.step,
            "tokens": self.tokens,
            "train_seconds": self.seconds,
        }

    def write(self, folder: Path) -> None:
        """Write into the checkpoint `folder`."""
        (folder / FILE).write_text(self.model_dump_json())

    @staticmethod
    def read(folder: Path) -> "Progress":
        """Return what `write` wrote."""
        return Progress.model_validate_json((folder / FILE).read_text())
