"""Metrics of the job `dataset`: what was selected, dropped and derived."""

from engine.records.base import BeforeAfter, Record


class TopicCluster(Record):
    """One topic cluster of the prompts' embeddings."""

    cluster: int
    """Its number; 0 is the largest."""
    rows: int
    """Prompts of the cluster."""
    picked: int
    """Prompts of the cluster that were picked."""
    label: str
    """The words that are typical of it, by TF-IDF over clusters."""
    signals: dict[str, float]
    """Signal -> mean over the cluster's rows that have it."""


class StageCounts(Record):
    """Prompts of one layer or difficulty by stage."""

    prompts: int
    """Prompts that were asked."""
    accepted: int
    """Prompts with an acceptable answer."""
    picked: int
    """Prompts that became examples."""


class Coverage(Record):
    """Cosine of landmarks of all rows to the nearest picked row."""

    mean: float
    least: float


class Selection(Record):
    """How picking changed the distribution of the rows."""

    rows: BeforeAfter[int]
    coverage: Coverage | None
    """null if no row is picked."""
    balance: dict[str, BeforeAfter[float | None]]
    """Stratum -> evenness of its values (Pielou, 1966), 0 to 1; null for a stratum with one value."""
    density: BeforeAfter[float | None]
    """Mean information density, nats a token."""
    signals: BeforeAfter[dict[str, float]]
    """Signal -> mean over the rows that have it."""


class DecontaminationSettings(Record):
    """The contract's section `curation.decontaminate`, without its lists."""

    fields: tuple[str, ...]
    ngram: int
    overlap: float
    similarity: dict[str, float]


class RemovedAnswers(Record):
    """Contaminated answers, by the text that they resemble most."""

    list: str
    """`holdout`, or the path of an evaluation list."""
    part: str
    """prompt, answer or rationale."""
    method: str
    """ngram or embedding."""
    answers: int


class ClosestAnswer(Record):
    """An answer that stays, and the protected text nearest to it."""

    answer_id: str
    list: str
    id: str
    """prompt_id of the text in its list."""
    part: str
    method: str
    similarity: float
    """Share of n-grams, or cosine."""


class Decontamination(Record):
    """The comparison of candidates with the holdout and the evaluation lists."""

    checked: int
    """Answers that were compared."""
    lists: dict[str, int]
    """List -> texts of it."""
    settings: DecontaminationSettings
    removed: tuple[RemovedAnswers, ...]
    """A further answer to a prompt is removed with the best one, and compared by n-grams only."""
    closest: tuple[ClosestAnswer, ...]
    """The nearest answers that stay, some of each method."""
    holdout: str = ""
    """Digest of the table `holdout`."""
    files: dict[str, str] = {}  # noqa: RUF012
    """File of an evaluation list -> hash of its content."""


class PreferenceSummary(Record):
    """The preference pairs."""

    pairs: int
    reasons: dict[str, int]
    """Reason why the other answer is worse -> pairs."""
    margin: float | None = None
    """Mean difference of confidence; null without pairs."""
    length_ratio: float | None = None
    """Mean ratio of the chosen answer's length to the rejected one's; null without pairs."""


class SplitShares(Record):
    """Number of topic clusters, and share of the validation split."""

    clusters: int
    validation: float


class DecisionMetrics(Record):
    """Metrics that are known once every row is decided on."""

    clusters: tuple[TopicCluster, ...]
    """Empty without embeddings."""
    coverage: dict[str, dict[str, StageCounts]]
    """`layer` and `difficulty` -> value -> prompts by stage."""
    selection: Selection | None
    """null without embeddings."""
    decontamination: Decontamination
    weights: dict[str, float]
    """Value of the stratum `pick.balance` -> weight of its examples; {} without balance."""


class DatasetMetrics(DecisionMetrics):
    """Metrics of the artifact `dataset`."""

    picked: dict[str, int]
    """Teacher -> answers that became examples."""
    splits: dict[str, int]
    """Split -> examples."""
    kinds: dict[str, int]
    """Kind of example (rows.KINDS) -> examples."""
    preferences: PreferenceSummary | None
    """null if the contract orders none."""
    labels: dict[str, int]
    """Label of a person -> answers."""
    wanted: SplitShares
    """As in the contract."""
    found: SplitShares
    """As in the dataset."""
