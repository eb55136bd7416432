"""Section `curation`: which candidates become training examples."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from engine.contract.base import NonEmpty, Positive, Section, Share, added, distinct
from engine.contract.derived import ContrastiveExamples, Preferences, Swaps
from engine.contract.prompts import Columns, Copies, Damaged
from engine.contract.signals import Signal
from engine.contract.synthesize import Layer

Part = Literal["prompt", "answer", "rationale"]
Stratum = Literal["task_unit", "layer", "difficulty", "cluster"]
SIGNALS_OF_ORDER: dict[str, tuple[Signal, ...]] = {"deita": ("complexity", "quality"), "ifd": ("ifd",), "dense": ("density",)}
STRATUM_VALUES = {"layer": get_args(Layer), "difficulty": ("easy", "medium", "hard")}


class Semantic(Section):
    """Near-duplicates by sentence embedding: see `engine/dedup/semantic.py`."""

    model: str = "all-minilm-l6-v2"
    """Folder of a sentence-transformers model, or its URL, or the name of one that a package carries."""
    threshold: Share = 0.95
    """Cosine similarity from which two prompts are near-duplicates."""


class EvaluationList(Section):
    """Prompts of a benchmark or exam that must not be trained on; read and redacted like a source. A row that is no prompt is a
    warning of the job `dataset`, a list without a valid row an error."""

    path: NonEmpty
    """A file, folder, glob or fsspec URL, as the path of a source."""
    columns: Columns = {"text": "input"}  # noqa: RUF012
    """Our column -> the list's column; a mapped `reference`, or the answer that ends a conversation of `messages`, is compared with
    answers and rationales; a row may lack it."""
    damaged: Damaged = "refuse"


class Decontaminate(Section):
    """Removes answers that resemble the holdout or an evaluation list."""

    lists: tuple[EvaluationList, ...] = ()
    """Evaluation lists; the holdout is always compared."""
    fields: tuple[Part, ...] = ("prompt", "answer", "rationale")
    """Parts that are compared: the prompt with prompts; answer and rationale with prompts and references."""
    ngram: Positive = 8
    """Words of an n-gram. An answer or rationale with fewer words is never contaminated."""
    overlap: Share = 0.5
    """A text is contaminated if at least this share of its n-grams occurs in one text of the holdout or of a list, or this share of
    that text's n-grams in it: so a long text that holds a protected one is contaminated, too."""
    max_df: Share = 0.5
    """An n-gram does not count if more than this share of the prompts of a source or task unit have it: see `prompts.copies`."""
    similarity: dict[Part, Share] = Field(default_factory=dict)
    """Part -> least cosine of sentence embeddings at which it is contaminated; a part that is not named is not compared.
    Answers in a fixed form all resemble each other: use a high threshold for them, or none."""


class Answers(Section):
    """Keeps several answers to one prompt, except near-duplicates of each other."""

    max_per_prompt: Positive = 4
    """Most answers to one prompt, the best first; the others are dropped as `sample`."""
    exact: bool = True
    """Whether answers that differ only in case and white space count as one."""
    minhash: Copies | None = None
    similarity: Share | None = None
    """Least cosine of sentence embeddings at which two answers to one prompt are duplicates; null = not compared."""


class Pick(Section):
    """Selects a representative training set."""

    pools: tuple[Literal["train", "hard", "refusal"], ...] = ("train", "refusal")
    """Pools whose answers may become examples."""
    clusters: Positive = 16
    """k of k-means over the prompts' embeddings: the topic clusters."""
    order: Literal["typical", "k_center", "facility_location", "information", "deita", "ifd", "dense"] = "typical"
    """Order of picking if a limit or quota applies. `typical`: cluster by cluster the nearest to the centre, rare scenarios first;
    `k_center`: the farthest from all picked; `facility_location`: the largest gain in coverage; `information`: the
    highest information density. By `judges.signals`: `deita`: the highest complexity times quality; `ifd`: the highest difficulty
    below 1; `dense`: the highest density."""
    count: Positive | None = None
    """Most prompts in all."""
    per_cluster: Positive | None = None
    """Most prompts of one topic cluster: short for a quota of `cluster`."""
    quotas: dict[Stratum, dict[str, Positive | Share]] = Field(default_factory=dict)
    """Stratum -> value -> most prompts (a whole number) or share of `count` (a fraction). `*` means each value that is not named.
    Clusters are named by number; 0 is the largest."""
    hard_weight: float = Field(default=1.0, gt=0)
    """Weight of examples of difficulty hard, or from the pool `hard`."""
    hard_copies: Positive = 1
    """Copies of such an example in the training split."""
    balance: Stratum | None = None
    """Example weights make the total weight of each value of this stratum equal, with a mean weight of 1."""
    validation: Share = 0.1
    """Share of the picked examples that form the validation split."""

    @model_validator(mode="after")
    def quotas_can_be_counted(self) -> "Pick":
        for stratum, values in self.quotas.items():
            for value, quota in values.items():
                if isinstance(quota, float) and self.count is None:
                    raise ValueError(f"quotas.{stratum}.{value}: {quota} is a share of pick.count, which is not given; add it")
                if value != "*" and value not in STRATUM_VALUES.get(stratum, (value,)):
                    raise ValueError(f"quotas.{stratum}: found {value!r}, expected some of {STRATUM_VALUES[stratum]}, or *")
        return self

    @property
    def limits(self) -> bool:
        """Whether a limit or quota may leave out prompts."""
        return bool(self.count or self.per_cluster or self.quotas)


class Curation(Section):
    """Candidates in, examples out. Dropped rows stay in `picked` with the reason and the id of the row they lost to."""

    exact: bool = True
    minhash: Copies | None = Copies()
    semantic: Semantic | None = Semantic()
    answers: Answers | None = None
    """null = only the best answer to a prompt is kept; the others are dropped as `sample`."""
    decontaminate: Decontaminate = Decontaminate()
    pick: Pick = Pick()
    preferences: Preferences | None = None
    """null = no table `preferences`."""
    contrastive: Annotated[tuple[ContrastiveExamples, ...], distinct("type")] = ()
    """Examples that are made of failed answers, each type at most once."""
    contrastive_share: Share = Field(default=0.2, lt=1)
    """Largest share of contrastive examples among all examples."""
    swaps: Swaps | None = added(None)
    """null = no variants of examples with other quoted values."""
    seed: int = 0

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
        missing = [name for name, is_set in needs.items() if is_set]
        if self.semantic is None and missing:
            raise ValueError(f"{missing[0]}: needs clusters, which need embeddings; set curation.semantic or take it out")
        return self
