"""Room 4: which candidates become examples."""

from typing import Literal

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section, Share
from engine.contract.prompts import Copies


class Semantic(Section):
    """Near-duplicates by sentence embedding."""

    model: str = "all-minilm-l6-v2"
    """A sentence-transformers folder, or the name of one that a package carries."""
    threshold: Share = 0.95
    """Cosine similarity from which two prompts are near-duplicates."""


class Decontaminate(Section):
    """Nothing of the holdout may be trained on."""

    ngram: Positive = 8
    """Words in a row shared with the holdout from which overlap is counted."""
    overlap: Share = 0.5
    """Share of a prompt's n-grams that also stand in one holdout prompt, from which it is contaminated."""


class Pick(Section):
    """A representative training set."""

    pools: tuple[Literal["train", "hard", "refusal"], ...] = ("train", "refusal")
    """Pools whose answers may be learnt as they stand."""
    clusters: Positive = 16
    """k of k-means over the prompts' embeddings."""
    per_cluster: Positive | None = None
    """At most this many examples from one cluster; the nearest to its centre and the rarest scenarios first."""
    hard_weight: float = Field(default=1.0, gt=0)
    """Weight of examples of difficulty hard, or from the pool `hard`."""
    validation: Share = 0.1
    """Share of the picked examples held back to watch the students' loss."""


class Curation(Section):
    """Candidates in, examples out; what is dropped stays, with the reason and the id it lost to."""

    exact: bool = True
    minhash: Copies | None = Copies()
    semantic: Semantic | None = Semantic()
    decontaminate: Decontaminate = Decontaminate()
    pick: Pick = Pick()
    seed: int = 0

    @model_validator(mode="after")
    def clusters_need_embeddings(self) -> "Curation":
        if self.semantic is None and self.pick.per_cluster is not None:
            raise ValueError("pick.per_cluster: needs clusters, which need embeddings; set curation.semantic or take it out")
        return self
