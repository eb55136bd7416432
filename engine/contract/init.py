"""A student's initial weights."""

from typing import Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, NonEmpty, Positive, Section
from engine.contract.shrink import Shrink

KINDS = ("prune", "shrink", "model", "champion")
"""Keys of `Init` of which exactly one says where the weights come from."""


def _is_none(value: object) -> bool:
    """Return whether a key is left out of dumps, so that recipes that were hashed before it existed keep their hashes."""
    return value is None


class Prune(Section):
    """Initialise a student from some layers of a larger model."""

    source: NonEmpty
    """Folder, URL or packaged name of the model that is pruned."""
    layers: tuple[int, ...] = Field(min_length=1)
    """Indices of the decoder layers that are kept, in order. The first and the last matter most."""


class WholeModel(Section):
    """Initialise a student from all of a model: full fine-tuning, unless `init.adapter` is given."""

    source: NonEmpty
    """Folder, URL or packaged name of the model: the teacher's own, or one of another family."""


class ChampionRelease(Section):
    """Initialise a student from a released one, with its tokenizer. By default from the champion of this contract; the release is
    part of the student's identity, so name its version if the run shall stay current when another one is promoted."""

    registry: str | None = None
    """Folder of champions, relative to the contract's folder, absolute, or a URL; null: the one next to the run folder."""
    contract: Name | None = None
    """Name of the contract under which it was released; null: this contract's."""
    version: str | None = Field(default=None, pattern="^[0-9a-f]{6,32}$")
    """First digits of the release's fingerprint; null: the champion."""


class Trim(Section):
    """Keep the tokens of the training texts with the merges that make them, all bytes, and all added tokens. Other texts are
    spelled out by what is left: they are longer, and are read and written all the same."""

    size: Positive | None = Field(default=None, exclude_if=_is_none)
    """Most tokens that are kept, the most frequent first; null keeps all that occur."""
    texts: tuple[str, ...] = Field(default=(), exclude_if=lambda texts: not texts)
    """More texts whose tokens are kept, such as samples of other languages. Usually `!include words.jsonl`, one text a line."""


class Vocabulary(Section):
    """Change the vocabulary: the tokenizer, and the rows of the embeddings and of the output layer."""

    trim: Trim = Trim()


class Adapter(Section):
    """Train low-rank updates of the linear layers in place of their weights."""

    type: Literal["lora", "dora"] = "lora"
    """LoRA (Hu et al., 2022), or DoRA (Liu et al., 2024), which trains the length of each column apart from its direction."""
    rank: Positive = 16
    """Rank of each update."""
    alpha: float = Field(default=32.0, gt=0)
    """An update is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the inputs of an update that are dropped in training."""
    targets: tuple[str, ...] = Field(default=(), exclude_if=lambda targets: not targets)
    """Names of the linear layers that get an update, such as `q_proj`; empty for all but the output layer."""
    merge: bool = True
    """Add the updates to the weights of the exported model. Otherwise it is exported with the adapter in a folder of its own."""


class Init(Section):
    """The source of a student's initial weights: exactly one of `prune`, `shrink`, `model` and `champion`. `vocabulary` and
    `adapter` are applied to it."""

    prune: Prune | None = Field(default=None, exclude_if=_is_none)
    shrink: Shrink | None = Field(default=None, exclude_if=_is_none)
    model: WholeModel | None = Field(default=None, exclude_if=_is_none)
    champion: ChampionRelease | None = Field(default=None, exclude_if=_is_none)
    vocabulary: Vocabulary | None = Field(default=None, exclude_if=_is_none)
    adapter: Adapter | None = Field(default=None, exclude_if=_is_none)

    @property
    def kind(self) -> str:
        """The one key of KINDS that is given."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def source(self) -> str | None:
        """Folder or packaged name of the model from which the weights are taken; None for `champion`."""
        return getattr(getattr(self, self.kind), "source", None)

    @property
    def layers(self) -> tuple[int, ...] | None:
        """The source's layers that are kept; None if that is only known with the model."""
        return self.prune.layers if self.prune else None

    @property
    def summary(self) -> str:
        """In words, for people: `3 layers of smollm2-135m-instruct (0, 17, 29)`."""
        base = f"all of {self.source}"
        if self.champion:
            base = f"{self.champion.contract or 'the contract'}'s release {self.champion.version or '(champion)'}"
        elif self.layers:
            base = f"{len(self.layers)} layers of {self.source} ({', '.join(map(str, self.layers))})"
        elif self.shrink:
            base = self.shrink.summary
        adapter = [f"{self.adapter.type} of rank {self.adapter.rank}"] if self.adapter else []
        changes = [*adapter, *(["a trimmed vocabulary"] if self.vocabulary else [])]
        return f"{base} with {' and '.join(changes)}" if changes else base

    @model_validator(mode="after")
    def has_one_source(self) -> "Init":
        found = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(found) != 1:
            raise ValueError(f"found {' and '.join(found) or 'none of them'}, expected exactly one of {', '.join(KINDS)}")
        if self.shrink and self.adapter:
            raise ValueError(
                "adapter: found one with shrink, expected none: a model that was cut has to learn with all its weights"
            )
        return self
