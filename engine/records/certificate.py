"""Certified thresholds, the curve of a cascade, and the file `cascade.json`."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from engine.records.base import Json, Record
from engine.records.estimate import Estimate

Method = Literal["rows", "effective", "thinned"]
"""How clusters enter a p-value: not at all, by the effective number of rows, or by one row of each cluster."""


class Certificate(Record):
    """A threshold of confidence, and the promise that holds above it; or why there is none.

    The promise: with probability 1 - `delta` over the draw of the holdout, at most a share `alpha` of the answers whose confidence
    is at least `threshold` is wrong. It is a promise about prompts like those of the holdout, answered by this deployment.
    """

    model: str = ""
    """Name of the deployment, such as `s` or `s.q8_0`."""
    threshold: float | None = None
    """Least confidence of an answer that is given; null = no threshold could be certified."""
    reason: str = ""
    """Why there is no threshold; empty if there is one."""
    alpha: float
    """Share of wrong answers among those given, at most."""
    delta: float
    """Probability, at most, that the promise is broken."""
    starts: int
    """Places in the order of thresholds at which testing starts; they share `delta`."""
    method: Method
    """How clusters entered the tests."""
    guarantee: str = ""
    """What is promised, and under which assumption, in a sentence."""
    n: int = 0
    """Rows that it was certified on."""
    clusters: int = 0
    """Their clusters; only clusters are independent."""
    answered: int = 0
    """Rows at or above the threshold."""
    wrong: int = 0
    """Wrong answers among them."""
    effective: float = 0.0
    """Independent rows that `answered` is worth."""
    risk: Estimate | None = None
    """Share of wrong answers at or above the threshold on these rows, with the score interval at the effective size. It flatters:
    the threshold was chosen on them."""
    risk_bound: float | None = None
    """Upper confidence bound of that share at level 1 - `delta`, of this threshold alone; at most `alpha`."""
    p_value: float | None = None
    """p-value of "the risk at this threshold is above `alpha`"."""
    coverage: Estimate | None = None
    """Share of rows at or above the threshold, with its score interval of level 0.95."""
    deployment: str = ""
    """Fingerprint of what was certified: weights, prompt, decoding (`engine.serving.deployment.certified_part`)."""
    holdout: str = ""
    """Fingerprint of the rows that it was certified on."""

    def expired(self, *, deployment: str, holdout: str | None = None, alarms: Collection[str] = ()) -> str:
        """Return why the promise does not hold any more; "" while it does.

        `deployment` is the fingerprint of what is served, `holdout` that of the rows that are current (None: not compared),
        `alarms` names the signals whose drift was detected since.
        """
        if self.threshold is None:
            return f"no threshold was certified: {self.reason}"
        if alarms and not self.of_another(deployment=deployment, holdout=holdout):
            return f"requests changed since it was certified ({', '.join(sorted(alarms))}); label some of them and certify again"
        return self.of_another(deployment=deployment, holdout=holdout)

    def of_another(self, *, deployment: str, holdout: str | None = None) -> str:
        """Return why it says nothing of this deployment or holdout, with or without a threshold; "" if it is of both."""
        if not deployment or deployment != self.deployment:
            return f"certified for deployment {_short(self.deployment)}, and {_short(deployment)} is served; certify again"
        if holdout is not None and holdout != self.holdout:
            return f"certified on holdout {_short(self.holdout)}, which is {_short(holdout)} now; certify again"
        return ""


class CurvePoint(Record):
    """A cascade with one threshold: a student, and what answers below the threshold."""

    threshold: float | None = None
    """Least confidence of the student's answers; null = a model alone."""
    coverage: float
    """Share of requests that the student answers."""
    accuracy: float
    """Share of requests answered right, by either."""
    selective_accuracy: float | None = None
    """Share right of what the student answers; null if it answers nothing."""
    cost_per_1000: float | None = None
    """Price of 1,000 requests; null if a model was not timed."""
    cost_per_1000_accepted: float | None = None
    """Price of 1,000 right answers; null if nothing is right or a model was not timed."""


class CascadeCurve(Record):
    """Cost, accuracy and coverage of one student before one fallback, over all thresholds."""

    student: str
    """Name of the student."""
    fallback: str
    """The model that answers below the threshold."""
    points: tuple[CurvePoint, ...] = ()
    """From the strictest threshold to the loosest; at most 64."""
    alone: dict[str, CurvePoint] = Field(default_factory=dict)
    """The student and the fallback, each alone: model -> its point."""
    answer_above: float | None = None
    """`specialist.niche.answer_above`, which nothing certified."""


class CascadeCheck(Record):
    """A certified cascade on rows that took no part in certifying it."""

    n: int = 0
    """Rows."""
    clusters: int = 0
    """Their clusters."""
    coverage: Estimate | None = None
    """Share of requests that a student answers."""
    risk: Estimate | None = None
    """Share of wrong answers among those; null if there are none."""
    accuracy: Estimate | None = None
    """Share of requests answered right, by anyone."""
    against_fallback: Estimate | None = None
    """Accuracy less that of the last model alone, paired."""
    cost_per_1000_accepted: float | None = None
    """Price of 1,000 right answers."""
    cost_vs_fallback: Estimate | None = None
    """That price over the price of the last model alone; null if a model was not timed."""
    by_stage: dict[str, float] = Field(default_factory=dict)
    """Stage -> share of requests that it answers."""


class NicheUse(Record):
    """The check of the niche that the thresholds were certified behind."""

    section: Json
    """`serving.cascade.niche` of the contract."""
    languages: tuple[str, ...]
    """`specialist.niche.languages`."""
    encoder: str
    """Embedding model: a bundled one, a folder or a URL."""
    file: str
    """Vectors of the prompts (`engine.serving.niche.NicheModel`), beside this file."""
    sha256: str
    """Hash of that file."""
    rows: int
    """Prompts of the holdout that were checked."""
    outside: dict[str, int] = Field(default_factory=dict)
    """Reason -> prompts of the holdout outside the niche."""


class CascadeResult(Record):
    """The file `cascade.json`: certified thresholds of the stages, and what they bring."""

    version: int = 1
    """Version of this layout."""
    run: str = ""
    """Run folder or URL."""
    contract: str = ""
    """Name of the contract."""
    created: str = ""
    """Time of writing, ISO 8601, UTC."""
    stages: tuple[str, ...] = ()
    """Models in the order in which they are asked; the last one answers what the others leave."""
    certificates: dict[str, Certificate] = Field(default_factory=dict)
    """Stage -> its certificate; the last stage has none."""
    check: CascadeCheck = CascadeCheck()
    """The cascade on the other part of the clusters."""
    curves: tuple[CascadeCurve, ...] = ()
    """Of each student before the last stage, on all rows."""
    currency: str = ""
    """Currency of all prices."""
    niche: NicheUse | None = None
    """What is outside the niche; null = every request is inside."""


def _short(fingerprint: str) -> str:
    return fingerprint[:12] or "unknown"
