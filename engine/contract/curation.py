"""Room 4: which candidates become examples."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section, Share
from engine.contract.derived import Boundary, Preferences
from engine.contract.prompts import Columns, Copies
from engine.contract.signals import Signal
from engine.contract.synthesize import Layer

Part = Literal["prompt", "answer", "rationale"]
Side = Literal["task_unit", "layer", "difficulty", "cluster"]
ORDERED_BY: dict[str, tuple[Signal, ...]] = {"deita": ("complexity", "quality"), "ifd": ("ifd",), "dense": ("density",)}
KNOWN = {"layer": get_args(Layer), "difficulty": ("easy", "medium", "hard")}


class Semantic(Section):
    """Near-duplicates by sentence embedding."""

    model: str = "all-minilm-l6-v2"
    """A sentence-transformers folder, or the name of one that a package carries."""
    threshold: Share = 0.95
    """Cosine similarity from which two prompts are near-duplicates."""


class EvaluationList(Section):
    """Prompts of a benchmark or exam that must stay unknown to the students; read and redacted as a source is."""

    path: str
    """A file, folder, glob or fsspec URL of JSONL, CSV or Parquet; relative to the contract's folder, or absolute."""
    columns: Columns = {"text": "input"}  # noqa: RUF012
    """Our column -> the list's; `reference`, if it is mapped, is looked for in answers and rationales."""


class Decontaminate(Section):
    """Nothing of the holdout, nor of an evaluation list, may be trained on."""

    lists: tuple[EvaluationList, ...] = ()
    """What else must stay unknown; the holdout is always looked at."""
    fields: tuple[Part, ...] = ("prompt", "answer", "rationale")
    """What of an example is compared: the prompt with prompts, answer and rationale with prompts and references."""
    ngram: Positive = 8
    """Words in a row shared with the holdout from which overlap is counted; a shorter answer or rationale is no leak."""
    overlap: Share = 0.5
    """Share of a text's n-grams that also stand in one text of the holdout or of a list, from which it is contaminated."""
    similarity: dict[Part, Share] = Field(default_factory=dict)
    """Part of an example -> cosine of sentence embeddings from which it is contaminated; a part that is not named is not compared.
    Answers in a fixed form are all alike: give them a high number, or none."""


class Answers(Section):
    """Several answers to one prompt are learnt, unless they say the same."""

    most: Positive = 4
    """Answers to one prompt, the best first; the others are out as `sample`."""
    exact: bool = True
    """The same text, but for case and white space, counts once."""
    minhash: Copies | None = None
    similarity: Share | None = None
    """Cosine of sentence embeddings from which two answers to one prompt say the same; null = not compared."""


class Pick(Section):
    """A representative training set."""

    pools: tuple[Literal["train", "hard", "refusal"], ...] = ("train", "refusal")
    """Pools whose answers may be learnt as they stand."""
    clusters: Positive = 16
    """k of k-means over the prompts' embeddings."""
    order: Literal["typical", "k_center", "facility_location", "information", "deita", "ifd", "dense"] = "typical"
    """Who comes first where not all have a place. `typical`: cluster by cluster what is nearest to its centre, the rarest scenarios
    first; `k_center`: what is farthest from all that is picked; `facility_location`: what makes the rest best represented;
    `information`: what the teacher was least sure of, where there is much like it. By `judges.signals`: `deita`: the highest
    complexity times quality; `ifd`: the highest difficulty below 1; `dense`: the highest density."""
    count: Positive | None = None
    """At most this many prompts in all."""
    per_cluster: Positive | None = None
    """At most this many prompts from one cluster: short for a quota of `cluster`."""
    quotas: dict[Side, dict[str, Positive | Share]] = Field(default_factory=dict)
    """Side -> value -> at most so many prompts (a whole number) or such a share of `count` (a fraction). `*` stands for each value
    that is not named. Clusters are called by their numbers, the largest is 0."""
    hard_weight: float = Field(default=1.0, gt=0)
    """Weight of examples of difficulty hard, or from the pool `hard`."""
    hard_copies: Positive = 1
    """How often such an example stands in the training split."""
    balance: Side | None = None
    """Examples weigh so that each value of this side weighs the same in all, and an example 1 on average."""
    validation: Share = 0.1
    """Share of the picked examples held back to watch the students' loss."""

    @model_validator(mode="after")
    def quotas_can_be_counted(self) -> "Pick":
        for side, values in self.quotas.items():
            for value, most in values.items():
                if isinstance(most, float) and self.count is None:
                    raise ValueError(f"quotas.{side}.{value}: {most} is a share of pick.count, which is not given; add it")
                if value != "*" and value not in KNOWN.get(side, (value,)):
                    raise ValueError(f"quotas.{side}: found {value!r}, expected some of {KNOWN[side]}, or *")
        return self

    @property
    def limits(self) -> bool:
        """Whether not every prompt may have a place."""
        return bool(self.count or self.per_cluster or self.quotas)


class Curation(Section):
    """Candidates in, examples out; what is dropped stays, with the reason and the id it lost to."""

    exact: bool = True
    minhash: Copies | None = Copies()
    semantic: Semantic | None = Semantic()
    answers: Answers | None = None
    """null = the best answer to a prompt is learnt, the others are out as `sample`; they are never copies of each other."""
    decontaminate: Decontaminate = Decontaminate()
    pick: Pick = Pick()
    preferences: Preferences | None = None
    """null = no table `preferences` is made."""
    boundary: tuple[Boundary, ...] = ()
    """What failed answers teach, each kind once; nothing unless it is named."""
    boundary_share: Share = Field(default=0.2, lt=1)
    """Most that boundary material may be of all examples."""
    seed: int = 0

    @model_validator(mode="after")
    def boundary_kinds_differ(self) -> "Curation":
        kinds = [one.type for one in self.boundary]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"boundary: found {kinds}, expected each type once")
        return self

    @model_validator(mode="after")
    def clusters_need_embeddings(self) -> "Curation":
        needs = {
            "pick.per_cluster": self.pick.per_cluster is not None,
            "pick.count": self.pick.count is not None,
            "pick.quotas": bool(self.pick.quotas),
            "pick.balance cluster": self.pick.balance == "cluster",
            "decontaminate.similarity": bool(self.decontaminate.similarity),
            "answers.similarity": self.answers is not None and self.answers.similarity is not None,
        }
        wanting = [name for name, is_asked in needs.items() if is_asked]
        if self.semantic is None and wanting:
            raise ValueError(f"{wanting[0]}: needs clusters, which need embeddings; set curation.semantic or take it out")
        return self
