"""What a search measured."""

from typing import Literal

from pydantic import Field, JsonValue

from engine.records.base import Record

Status = Literal["running", "finished", "killed", "budget", "failed"]


EndedBy = Literal["trials", "seconds", "target_tokens"]
"""Limit of a search's budget."""


class Trial(Record):
    """One training of a search. Its file in the ledger is written as it begins, and at every validation."""

    trial: str
    """Hash of its values and of what it is trained on."""
    values: dict[str, JsonValue]
    """Dotted key of the student -> value."""
    status: Status = "running"
    """`finished` by itself, `killed` as it was behind, ended by the `budget`, `failed`; `running`: the search was interrupted."""
    score: float | None = None
    """What trials are ranked by, more is better: the exact match on validation examples if the student's `metric` is that, else the
    validation loss with its sign changed. Of the best weights so far; null before the first validation."""
    loss: float | None = None
    """Validation loss of the best weights so far, nats per target token."""
    metric: float | None = None
    """Their exact match, if it was measured."""
    epochs: float = 0.0
    """Passes over the training examples so far."""
    steps: int = 0
    tokens: int = 0
    """Target tokens learned."""
    seconds: float = 0.0
    """Of training."""
    curve: tuple[tuple[float, float], ...] = ()
    """Epochs and score at each validation that was better than those before."""
    error: str = ""
    """Why it failed."""


class SearchResult(Record):
    """Output of `rayleigh search`, and the file `search/NAME/search.json` of the run."""

    run: str
    student: str
    """Name of the student in the contract."""
    trials: tuple[Trial, ...]
    """Best first; those that did not end by themselves are behind all that did."""
    ended_by: EndedBy
    """The limit of the budget that was reached."""
    tokens: int
    """Target tokens of all trials."""
    seconds: float
    """Wall time of all sessions together, without the retraining."""
    winner: Trial
    changes: tuple[str, ...]
    """The winner as arguments of `--set`."""
    contract: str
    """File with the contract of the run and the winner's values."""
    spread: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """`loss`, `metric` and others -> mean and standard deviation over the seeds of the retraining; {} with one seed."""
