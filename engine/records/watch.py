"""What `rayleigh watch` keeps between two starts, and what it shows."""

from pydantic import Field

from engine.records.base import Record
from engine.records.monitor import Alarm, LabelledAccuracy, MonitorState
from engine.records.shadow import ShadowWord


class KeptBaseline(Record):
    """The baseline of one signal (`engine.stats.drift.Baseline`)."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    log_e: tuple[float, ...]
    mean: float
    variance: float
    rows: int


class KeptMonitor(Record):
    """The monitor of one deployment."""

    longest: int = 1
    """Characters of the longest answer of the baseline."""
    source: str = ""
    """Where the baseline is from: a run, or the first rows of the stream."""
    baselines: dict[str, KeptBaseline] = Field(default_factory=dict)
    """Signal -> baseline; empty while its rows are gathered."""
    gathered: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Signal -> values that will be its baseline."""
    texts: tuple[int, ...] = ()
    """Characters of the answers gathered."""
    rows: int = 0
    """Requests gathered."""
    vectors: int = 0
    """Embeddings of prompts gathered: the first rows of the deployment's array, which may be newer than this."""
    clusters: tuple[int, ...] = ()
    """Cluster of each embedding of the baseline; empty = each is its own."""
    state: MonitorState = MonitorState()


class Recent(Record):
    """One of the last requests."""

    time: float
    """Seconds since 1970."""
    status: int
    latency_ms: float


class Totals(Record):
    """Counts of all requests of the records."""

    requests: int = 0
    statuses: dict[str, int] = Field(default_factory=dict)
    """HTTP status -> requests."""
    routes: dict[str, int] = Field(default_factory=dict)
    """Route -> answered requests; `student` is the deployment itself."""
    errors: dict[str, int] = Field(default_factory=dict)
    """Code of the error -> requests."""
    abstained: int = 0
    cost: float = 0.0
    """In the contract's currency."""
    deployments: dict[str, int] = Field(default_factory=dict)
    """Fingerprint -> requests."""


class ShadowNow(Record):
    """The last word of a comparison in shadow."""

    challenger: str
    reference: str
    word: ShadowWord = "keep watching"
    pairs: int = 0
    agreed: int = 0
    """Rows on which the challenger gave the reference's answer."""
    failed: int = 0
    """Rows on which it gave none."""


class WatchKept(Record):
    """`<records>/monitor/state.json`."""

    version: int = 1
    """Version of this layout."""
    requests: dict[str, int] = Field(default_factory=dict)
    """Stream of the table of requests -> rows that were read."""
    shadows: dict[str, int] = Field(default_factory=dict)
    """The same of the table of comparisons."""
    totals: Totals = Totals()
    recent: tuple[Recent, ...] = ()
    monitors: dict[str, KeptMonitor] = Field(default_factory=dict)
    """Fingerprint of a deployment -> its monitor."""
    comparisons: dict[str, ShadowNow] = Field(default_factory=dict)


class SignalView(Record):
    """One signal of a monitor."""

    mean: float | None
    """Of the last rows; null without any."""
    baseline: float
    rows: int
    e_value: float
    """Weighted evidence against "nothing changed"; an alarm from `limit` on."""


class MonitorView(Record):
    """The monitor of one deployment."""

    deployment: str
    source: str
    """Where its baseline is from; empty while it is gathered."""
    gathered: int = 0
    """Requests of the baseline so far, while it is gathered."""
    rows: int = 0
    """Observations since: requests, and comparisons with a teacher."""
    e_value: float = 1.0
    """Of all signals together."""
    limit: float = 20.0
    signals: dict[str, SignalView] = Field(default_factory=dict)
    embedding_e_value: float | None = None
    """The same of the domain classifier on the prompts' embeddings; null = it is not tested."""
    untested: tuple[str, ...] = ()
    """Signals of the contract without a baseline."""
    alarms: tuple[Alarm, ...] = ()


class ToLabel(Record):
    """A request that a person is asked about."""

    request_id: str
    disagrees: bool
    """Whether student and teacher gave different answers."""


class WatchView(Record):
    """Output of `rayleigh watch`, and `<records>/monitor/summary.json`."""

    records: str
    """Folder."""
    time: float
    """Seconds since 1970 at which this was read."""
    totals: Totals
    per_second: float
    """Requests a second over the last minute."""
    p50_ms: float | None = None
    """Median latency of the last requests that were answered; null without any."""
    p95_ms: float | None = None
    monitors: tuple[MonitorView, ...] = ()
    """The deployment that answered last comes first."""
    comparisons: tuple[ShadowNow, ...] = ()
    accuracy: LabelledAccuracy | None = None
    """From the labels, if there are any."""
    to_label: tuple[ToLabel, ...] = ()
    """Requests to label next: disagreements and others in turn, each in the random order of the draw."""


class RatePoint(Record):
    """A rate after some of the requests."""

    time: float
    """Seconds since 1970 of the last of them."""
    rows: int
    """Requests from the first one on."""
    mean: float
    """Over all of them."""
    low: float
    """Confidence sequence of the rate: holds at all points together."""
    high: float
    recent: float
    """Mean over the requests since the point before."""


class RateLine(Record):
    """A signal over time."""

    signal: str
    points: tuple[RatePoint, ...]


class AlarmRow(Record):
    """One of the requests that an alarm names."""

    request_id: str
    time: float
    confidence: float | None = None
    route: str = ""
    abstained: bool = False
    answer: str | None = None
    """Redacted, as in the records."""


class WatchHistory(Record):
    """What the page of `rayleigh watch` shows besides its view: of the deployment that answered last."""

    deployment: str = ""
    delta: float = 0.05
    """Probability, at most, that the band of a line leaves out its rate at any time."""
    requests: int = 0
    """The last ones, from which the lines are drawn."""
    lines: tuple[RateLine, ...] = ()
    alarm_rows: dict[str, tuple[AlarmRow, ...]] = Field(default_factory=dict)
    """Signal of an alarm -> the last of its rows that are in the records."""
