"""What the monitor of a deployment keeps, its alarms, and the accuracy that a trickle of labels estimates."""

from pydantic import Field

from engine.records.base import Record
from engine.records.estimate import Estimate


class Alarm(Record):
    """One signal whose rows are no longer like the baseline's."""

    signal: str
    """Name, such as `agreement` or `nulls.city`."""
    at: int
    """Rows of the stream until then."""
    e_value: float
    """Weighted e-value of the signal: evidence against "nothing changed"."""
    named: bool
    """true: this signal alone is proven to have changed; false: all signals together are, and this one changed most."""
    direction: int
    """1: it rose, -1: it fell."""
    baseline: float
    """Mean before."""
    mean: float
    """Mean of the rows since the estimated change."""
    rows: tuple[str, ...] = ()
    """Ids of the rows since the estimated change, oldest first; at most `monitor.keep`."""
    sentence: str = ""
    """The alarm in words."""


class SignalState(Record):
    """The bets on one signal."""

    rows: int = 0
    wealth: tuple[tuple[float, ...], ...] = ()
    """Cells of the baseline's mean x bets."""
    since: tuple[int, ...] = ()
    gains: tuple[float, ...] = ()
    recent: tuple[tuple[str, float], ...] = ()
    """Ids and values of the last rows."""
    alarmed: bool = False


class EpochState(Record):
    """A domain classifier and the bets on its scores."""

    weights: tuple[float, ...] = ()
    """Coefficients of the logistic model, the constant last."""
    share: float = 0.0
    """Share of the money that this epoch has."""
    bets: SignalState = SignalState()


class MonitorState(Record):
    """Everything that a monitor needs to go on after a restart."""

    version: int = 1
    """Version of this layout."""
    deployment: str = ""
    """Fingerprint of what is monitored."""
    baseline: str = ""
    """Fingerprint of the rows that the baselines were measured on."""
    rows: int = 0
    """Rows so far."""
    signals: dict[str, SignalState] = Field(default_factory=dict)
    epochs: tuple[EpochState, ...] = ()
    """Domain classifiers that still bet, oldest first."""
    closed: float = 0.0
    """Weighted e-value of the epochs that do not bet any more."""
    num_epochs: int = 0
    """Epochs that were begun."""
    alarms: tuple[Alarm, ...] = ()


class LabelledAccuracy(Record):
    """Accuracy of the served answers, from a few labels."""

    accuracy: Estimate | None = None
    """Share of right answers; null with fewer than two labels, or if none of those is labelled on which student and teacher agree,
    or disagree, and some were drawn."""
    deployment: str = ""
    """Fingerprint of the deployment whose answers these are: the one that answered last."""
    labels: int = 0
    """Labelled rows."""
    rows: int = 0
    """Rows that the labelled ones were drawn from."""
    waiting: int = 0
    """Rows that were drawn and have no label yet."""
    effective: float = 0.0
    """Labels that a simple random sample would need for the same interval."""
