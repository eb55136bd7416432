"""What the run cost and saves, whose errors the students make, and whether to go on: `worth` in `report.json`."""

from typing import Literal

from pydantic import Field

from engine.records.attribution import Attribution
from engine.records.base import Record
from engine.records.curve import LearningCurve
from engine.records.estimate import Estimate

Word = Literal["data", "larger_student", "teacher", "labels", "stop", "unknown"]
TITLES: dict[Word, str] = {
    "data": "Go on with data",
    "larger_student": "Go on with a larger student",
    "teacher": "Get a better teacher",
    "labels": "Get labels",
    "stop": "Stop",
    "unknown": "Unknown",
}


class ErrorClass(Record):
    """Holdout prompts of one class."""

    count: int
    """Prompts."""
    share: Estimate
    """Share of all prompts."""
    examples: tuple[str, ...] = ()
    """prompt_ids of the first of them."""


class Decomposition(Record):
    """A student's answers against the teacher's; every holdout prompt is in one class."""

    student: str
    """Name of the student."""
    teacher: str
    """The teacher with the highest exact match."""
    both_right: ErrorClass
    """Both are right."""
    error_learnt: ErrorClass
    """The teacher is wrong, and the student gives the same wrong answer."""
    not_learnt: ErrorClass
    """The teacher is right, the student is wrong."""
    better: ErrorClass
    """The teacher is wrong, the student is right."""
    both_wrong: ErrorClass
    """Both are wrong with different answers."""
    error_consistency: Estimate | None = None
    """Kappa of being right or wrong together (Geirhos et al., 2020): 0 chance, 1 always; null if one of them is never wrong."""
    answer_agreement: Estimate | None = None
    """Kappa of giving the same answer (Goel et al., 2025), given how often each is right."""
    errors_shared: Estimate | None = None
    """Of the teacher's wrong answers, the share that the student gives too; null without any."""


class Concentration(Record):
    """A slice of the holdout on which a model errs more often than elsewhere, or a field that it gets wrong."""

    model: str
    """Name of the model."""
    dimension: str
    """task_unit, layer, difficulty, scenario; or `field`: a field of the answer."""
    value: str
    """The slice, or the field."""
    errors: int
    """Errors in it."""
    of: int
    """All errors of the model."""
    excess: Estimate
    """Error rate in the slice less that elsewhere; of a field its share of the errors less the mean share of the other fields."""
    level: float
    """Confidence level of `excess`, corrected for the number of slices and fields (Holm)."""


class RunCost(Record):
    """What the run cost, in the contract's currency."""

    currency: str = ""
    """`budget.price.currency`."""
    teachers: float = 0.0
    """Tokens and machine time of the answers."""
    synthesis: float = 0.0
    """Tokens of the prompts that were written."""
    judges: float = 0.0
    """Tokens of rubrics and signals that this run folder paid."""
    derived: float = 0.0
    """Tokens of repaired answers, and those of the capture at the price of its teachers, that this run folder paid."""
    training: float = 0.0
    """Machine time of the trainings of the students: seconds times workers."""
    labels: float = 0.0
    """Labels of persons."""
    num_labels: int = 0
    """Labels of persons: reviewed answers, labelled items of the judge, holdout rows labelled by hand."""
    total: float = 0.0
    """Their sum."""
    without: tuple[str, ...] = ()
    """What it does not count."""


class Payback(Record):
    """When the run has paid for itself with one student."""

    student: str
    """Name of the student."""
    saving_per_1000: Estimate
    """Price of 1,000 requests to the teacher less that with the student, fallbacks included."""
    break_even: float | None
    """Requests after which the savings are the cost of the run; null = never: it saves nothing."""
    break_even_low: float | None
    """Lower end of its interval; null = never."""
    break_even_high: float | None
    """Upper end of its interval; null = never: the interval of the saving reaches 0."""
    months: float | None = None
    """The same in months at `specialist.niche.traffic`; null = never, or the traffic is not known."""
    saving_per_month: Estimate | None = None
    """Saving at that traffic; null if it is not known."""
    accepted: Estimate | None = None
    """Share of requests answered right, with fallbacks, less the teacher's."""


class Copies(Record):
    """How many of the new prompts resemble one that was there."""

    source: str
    """`synthesis`, or `sources` without one."""
    copies: int
    """Prompts that were dropped as a copy of another, by text or by meaning."""
    prompts: int
    """All of them."""
    share: Estimate
    """Copies of all."""


class LabelNoise(Record):
    """How often the answers that the students learn are wrong."""

    source: str
    """`persons`: reviewed answers; `confidence`: one less the calibrated confidence."""
    share: Estimate
    """Share of wrong answers."""


class Signal(Record):
    """A reason to stop or to go on, with its number."""

    name: Literal["ceiling", "marginal_gain", "capacity", "bias", "coverage", "label_noise", "payback"]
    """What is watched."""
    fired: bool | None
    """Whether it speaks against more of the same; null if the number is missing."""
    number: Estimate | None = None
    """Its number."""
    limit: float | None = None
    """What the number is compared with."""
    text: str = ""
    """The finding, in a sentence."""
    run: str = ""
    """Command that gives the missing number."""


class Advice(Record):
    """What to do next."""

    word: Word = "unknown"
    """data, larger_student, teacher, labels, stop; unknown if a number is missing."""
    student: str = ""
    """The student that it is about: the best one."""
    why: tuple[str, ...] = ()
    """The numbers that say so, a sentence each."""
    run: tuple[str, ...] = ()
    """Commands that give missing numbers."""

    @property
    def title(self) -> str:
        """The word as a sentence without an end."""
        return TITLES[self.word]


class Worth(Record):
    """Return and stop."""

    level: float = 0.95
    """Confidence level of the intervals."""
    worth: float = 0.01
    """`evaluation.worth` of the contract."""
    decompositions: tuple[Decomposition, ...] = ()
    """Of each student and export."""
    concentrations: tuple[Concentration, ...] = ()
    """Where the teacher errs more often than elsewhere; only those whose interval excludes 0."""
    cost: RunCost = RunCost()
    """Cost of the run."""
    paybacks: tuple[Payback, ...] = ()
    """Of each student and export that was timed."""
    capacity: Estimate | None = None
    """Exact match of the largest student less that of the next smaller one; null with one size."""
    sizes: tuple[str, ...] = ()
    """Both students, the larger first."""
    copies: Copies | None = None
    """Copies among the prompts; null without prompts."""
    label_noise: LabelNoise | None = None
    """Wrong answers among those that are learnt; null if it was not measured."""
    curve: LearningCurve | None = None
    """Result of `rayleigh ablate --curve` on this dataset, if there is one."""
    attribution: Attribution | None = None
    """Result of `rayleigh ablate --buckets` on this dataset, if there is one."""
    signals: tuple[Signal, ...] = Field(default=())
    """All that is watched."""
    advice: Advice = Advice()
    """What to do next, from the signals."""
