"""`rayleigh compare RUN RUN --json`: what differs between runs, and what moved because of it."""

from typing import Literal

from pydantic import JsonValue

from engine.records.base import Record
from engine.records.candidates import TeacherCost
from engine.records.estimate import Estimate
from engine.records.gate import Word
from engine.records.report import Role


class RunHead(Record):
    """One of the runs."""

    name: str
    """By which it is called here: the last part of its path, or more of it if two would be equal."""
    folder: str
    """Path or URL."""
    contract: str
    """Name of its contract."""
    created: str
    """ISO 8601, UTC."""
    finished: tuple[str, ...]
    """Jobs that are finished, in the order of the pipeline."""


class KeyChange(Record):
    """A value in which two contracts differ."""

    key: str
    """Path into the contract as `--set` takes it; an item of a list is called by its name, else by its number."""
    before: JsonValue
    """null also where the key is not set."""
    after: JsonValue


class JobChange(Record):
    """One job in both runs."""

    job: str
    state: Literal["same", "changed", "only before", "only after", "in neither"]
    """`same`: equal rows and files, whatever made them."""
    because: tuple[str, ...]
    """Why it is another: keys of its recipe, source files, or inputs that changed; none if the same recipe gave other rows."""
    environment: tuple[str, ...] = ()
    """Packages and commits that differ: `name: before -> after`."""


class Shift(Record):
    """Rows that are elsewhere in the other run, or for another reason."""

    before: str
    """Place before; "" = not in that run."""
    after: str
    """Place after; "" = not in that run."""
    reasons_before: tuple[str, ...] = ()
    """Tags that say why it was there."""
    reasons_after: tuple[str, ...] = ()
    rows: int
    confidence: tuple[float, float] | None = None
    """Least and largest confidence of these answers, in the later run where they have one; null without one."""
    examples: tuple[str, ...]
    """A few ids, for `rayleigh trace`."""


class Pair(Record):
    """Two texts at the same place."""

    id: str
    """Of the prompt."""
    text: str
    """The prompt."""
    before: str
    after: str


class PromptsCompared(Record):
    """Prompts by id, which is a hash of source and messages."""

    before: int
    after: int
    both: int
    """Prompts that both runs sent to their teachers."""
    changed: int
    """Of these, those whose task unit, layer, difficulty, scenario, language, licence or reference is another."""
    shifts: tuple[Shift, ...]
    """Prompts that are elsewhere: `prompts`, `holdout`, or the reason for which they were dropped."""


class AnswersCompared(Record):
    """Answers of the same teacher, with the same number, to the same prompt."""

    before: int
    after: int
    same: int
    """Answers with the same text and finish reason in both runs."""
    other: int
    """Answers with another text or finish reason."""
    only_before: int
    only_after: int
    teachers: dict[str, tuple[int, int]]
    """Teacher -> (same, other)."""
    examples: tuple[Pair, ...]
    """A few prompts with another answer."""


class PoolsCompared(Record):
    """Where the answers went; those of the same teacher, prompt and number are compared."""

    before: dict[str, int]
    """Pool -> answers."""
    after: dict[str, int]
    shifts: tuple[Shift, ...]
    """Answers that moved from pool to pool, then those that stayed for other reasons; most rows first."""


class DatasetCompared(Record):
    """The examples, and what became of the answers."""

    before: int
    after: int
    same: int
    """Examples with the same target for the same prompt in both runs."""
    reweighted: int
    """Of these prompts and targets, those with another weight, split or number of copies."""
    changed: int
    """Examples that have another target for the same prompt."""
    into: int
    """Examples of prompts of which the earlier run had none, or fewer."""
    out: int
    """Examples of prompts of which the later run has none, or fewer."""
    examples: tuple[Pair, ...]
    """A few of them: changed ones, then those that came in (before is "") and went out (after is "")."""
    shifts: tuple[Shift, ...]
    """Answers by what became of them: `picked`, or the reason for which they were dropped; for a pool, its name."""


class RequirementShift(Record):
    """One requirement of the gate in both runs."""

    number: str
    """Name of the requirement."""
    found: tuple[float | None, float | None]
    """Measured before and after."""
    wanted: tuple[float | None, float | None]
    """Threshold before and after; null: not required."""
    words: tuple[Word | None, Word | None]
    """What the gate says, before and after."""


class ModelCompared(Record):
    """One model that both runs evaluated under one name."""

    name: str
    role: Role
    exact_match: tuple[Estimate | None, Estimate | None]
    """Before and after, as in the reports."""
    difference: Estimate | None
    """Exact match after less before on the prompts of both holdouts, with a paired interval over clusters; null without any."""
    p_value: float | None
    """Two-sided, of "there is no difference"; of the models of this comparison those that `differs` names are corrected by Holm."""
    differs: bool
    """Whether the difference is proven at the level of the contract, among all models of the comparison."""
    gained: int
    """Prompts that only the later model answers rightly."""
    lost: int
    """Prompts that only the earlier model answers rightly."""
    parameters: tuple[int | None, int | None]
    weight_bytes: tuple[int | None, int | None]
    p95_ms: tuple[float | None, float | None]
    per_1000_accepted: tuple[float | None, float | None]
    """Cost of 1,000 right answers."""
    words: tuple[Word | None, Word | None]
    """What the gate says; null for a model that it does not decide on, or by point values."""
    requirements: tuple[RequirementShift, ...]
    """Requirements whose threshold or word is another."""


class ModelsCompared(Record):
    """The models on the holdout."""

    prompts: tuple[int, int, int]
    """Holdout prompts with predictions before, after, and in both."""
    references_changed: int
    """Prompts of both whose right answer is another."""
    level: float
    """Confidence level of the intervals."""
    models: tuple[ModelCompared, ...]
    only_before: tuple[str, ...]
    """Models that the later run has not evaluated."""
    only_after: tuple[str, ...]
    winners: tuple[str | None, str | None]
    """Student that the gate chooses, before and after."""


class CostsCompared(Record):
    """What the runs cost."""

    currency: tuple[str, str]
    teachers: dict[str, tuple[TeacherCost | None, TeacherCost | None]]
    """Teacher -> before and after."""
    paid: tuple[int, int]
    """Tokens of teachers that each run folder paid."""
    judge_paid: tuple[int, int]
    """Tokens of judges that each run folder paid."""
    seconds: dict[str, tuple[float | None, float | None]]
    """Job -> wall time before and after."""


class RunPair(Record):
    """The first run and one of the others. A part is null where a run has not finished the job that makes it."""

    before: str
    """Name of the first run."""
    after: str
    """Name of the other."""
    summary: tuple[str, ...]
    """What differs and what moved, a sentence each."""
    contract: tuple[KeyChange, ...]
    jobs: tuple[JobChange, ...]
    prompts: PromptsCompared | None
    answers: AnswersCompared | None
    pools: PoolsCompared | None
    dataset: DatasetCompared | None
    models: ModelsCompared | None
    costs: CostsCompared | None


class Comparison(Record):
    """All of it."""

    runs: tuple[RunHead, ...]
    pairs: tuple[RunPair, ...]
    """The first run with each of the others."""
