"""Training objectives of a student: the terms of its loss, and how they are blended by kind of example."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from engine.contract.base import Positive, Section, added

Kind = Literal["answer", "correction", "contrast", "refusal", "ask", "rewrite", "swap"]
"""Kinds of examples, as in the column `kind` of the table `examples`."""
CAPTURED = ("forward_kl", "reverse_kl", "jsd", "uld")
"""Objectives that read the teacher's captured distribution."""
SAYS_WORDS = ("sft", "process", "forward_kl", "reverse_kl", "jsd")
"""Objectives that say which word is meant."""
PAIRED = ("dpo", "orpo", "simpo")
"""Objectives that read preference pairs."""
OF_TOKENS = ("sft", *CAPTURED, "hidden", "process")
"""Objectives over the target tokens of examples."""


def _absent(value: object) -> bool:
    """Return whether a key is left out of dumps, so that recipes that were hashed before it existed keep their hashes."""
    return not value


def _from_weight(value: Any) -> Any:
    """Return the section of an objective that is given by its weight alone."""
    return {"weight": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Weighted(Section):
    """An objective with its weight in the loss. A number in its place is the weight."""

    weight: float = Field(default=1.0, ge=0)
    """Factor of this term; 0 = only where `by_kind` or `by_tier` give it another."""


class Divergence(Weighted):
    """A divergence from the teacher's captured distribution, over its tokens and one outcome for all others."""

    temperature: float = Field(default=1.0, gt=0)
    """Both distributions are raised to 1 / temperature and normalised; the loss is multiplied by its square (Hinton et al.,
    2015)."""


class JensenShannon(Divergence):
    """Generalised Jensen-Shannon divergence (Agarwal et al., "On-policy distillation of language models", 2024, equation 1)."""

    beta: float = Field(default=0.5, gt=0, lt=1)
    """Share of the teacher in the mixture: near 0 like the forward KL, near 1 like the reverse."""


class Uld(Weighted):
    """Universal logit distillation (Boizard et al., 2024): the distance of the sorted probabilities, 0 to 2 a token, not nats. It
    says how sure the teacher is, not of which word, so that it is never the only objective."""


class Hidden(Weighted):
    """Distance of hidden states from those of the model in `init`, which runs beside the student: a forward pass more a step."""

    loss: Literal["mse", "cosine"] = "cosine"
    """Mean squared difference, or 1 less the cosine."""
    layers: dict[int, int] | None = None
    """Layer of the student -> layer of the source, from 0; null = each layer of the student, at the same relative depth."""

    @model_validator(mode="after")
    def names_layers(self) -> "Hidden":
        if self.layers is not None and (not self.layers or min(*self.layers, *self.layers.values()) < 0):
            raise ValueError(f"layers: found {self.layers}, expected at least one pair of layers, counted from 0, or null")
        return self


class Dpo(Weighted):
    """Direct preference optimisation (Rafailov et al., 2023). The reference is the student before its first step."""

    beta: float = Field(default=0.1, gt=0)
    """How strongly the student is held to the reference."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs that are taken to be the wrong way round; the loss is unbiased by them (Chowdhury et al., 2024)."""


class Orpo(Weighted):
    """Odds ratio preference optimisation (Hong et al., 2024): cross entropy of the chosen answer, and the odds ratio's term."""

    beta: float = Field(default=0.1, ge=0)
    """Factor of the odds ratio's term; lambda in the paper."""


class Simpo(Weighted):
    """Simple preference optimisation (Meng et al., 2024): mean log-probabilities, no reference."""

    beta: float = Field(default=2.0, gt=0)
    gamma: float = Field(default=1.0, ge=0)
    """Margin by which the chosen answer's reward must be higher, in units of the reward (beta times mean log-probability)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs that are taken to be the wrong way round."""


class Process(Weighted):
    """Cross entropy as `sft`, with a weight of the rationale's tokens that follows the epoch. They stay in the student's input."""

    schedule: Literal["keep", "fade", "drop_after"] = "fade"
    """Weight of the rationale's tokens: 1; from 1 in the first epoch to 0 in the last; or 1, then 0 after `epochs`."""
    epochs: Positive | None = None
    """Epochs with the rationale in `drop_after`."""

    @model_validator(mode="after")
    def drop_after_has_epochs(self) -> "Process":
        if (self.schedule == "drop_after") != (self.epochs is not None):
            raise ValueError(f"epochs: found {self.epochs}, expected a number for the schedule drop_after, and none for others")
        return self


class Blend(Section):
    """Other weights of the objectives, for some examples; null = the weight of the objective."""

    sft: float | None = Field(default=None, ge=0)
    forward_kl: float | None = Field(default=None, ge=0)
    reverse_kl: float | None = Field(default=None, ge=0)
    jsd: float | None = Field(default=None, ge=0)
    uld: float | None = added(None, ge=0)
    hidden: float | None = Field(default=None, ge=0)
    process: float | None = Field(default=None, ge=0)


def _optional() -> Any:
    return Field(default=None, exclude_if=_absent)


class Objectives(Section):
    """The terms of the loss. Each is a mean per target token, or per pair for `dpo`, `orpo` and `simpo`, times its weight."""

    sft: float = Field(default=1.0, ge=0)
    """Cross entropy of the target tokens only. 0 if another objective takes its place."""
    forward_kl: Annotated[Divergence | None, BeforeValidator(_from_weight)] = _optional()
    """KL divergence of the student from the teacher: the student must cover all that the teacher may say."""
    reverse_kl: Annotated[Divergence | None, BeforeValidator(_from_weight)] = _optional()
    """KL divergence of the teacher from the student: the student must say nothing that the teacher would not."""
    jsd: Annotated[JensenShannon | None, BeforeValidator(_from_weight)] = _optional()
    uld: Annotated[Uld | None, BeforeValidator(_from_weight)] = _optional()
    """Distance of student's and teacher's sorted probabilities: where it is not certain which of their words are the same."""
    hidden: Annotated[Hidden | None, BeforeValidator(_from_weight)] = _optional()
    dpo: Annotated[Dpo | None, BeforeValidator(_from_weight)] = _optional()
    orpo: Annotated[Orpo | None, BeforeValidator(_from_weight)] = _optional()
    simpo: Annotated[Simpo | None, BeforeValidator(_from_weight)] = _optional()
    process: Annotated[Process | None, BeforeValidator(_from_weight)] = _optional()
    by_kind: dict[Kind, Blend] = Field(default={}, exclude_if=_absent)
    """Kind of example -> other weights, such as no `forward_kl` on refusals that the teacher never wrote."""
    by_tier: dict[int, Blend] = Field(default={}, exclude_if=_absent)
    """Index of a confidence tier (`judges.pools.confidence_tiers`) -> other weights; `by_kind` goes first where both name one."""

    def settings(self, name: str) -> Weighted | None:
        """Return the section of the objective `name`; None if it is not ordered, and for `sft`, which has no parameters."""
        return None if name == "sft" else getattr(self, name)

    def weight(self, name: str) -> float:
        """Return the weight of the objective `name` where no blend gives another; 0 if it is not ordered."""
        if name == "sft":
            return self.sft
        section = self.settings(name)
        return section.weight if section else 0.0

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the objectives that have a weight for some examples."""
        blended = {name for blend in self.blends for name, weight in blend if weight}
        return tuple(name for name in (*OF_TOKENS, *PAIRED) if self.weight(name) or name in blended)

    @property
    def reads_capture(self) -> bool:
        """Whether an objective reads the teacher's captured distribution."""
        return any(name in CAPTURED for name in self.active)

    @property
    def reads_pairs(self) -> bool:
        """Whether an objective reads preference pairs."""
        return any(name in PAIRED for name in self.active)

    @property
    def reads_examples(self) -> bool:
        """Whether an objective reads the target tokens of examples; if none does, a step's batch is of pairs alone."""
        return any(name in OF_TOKENS for name in self.active)

    @property
    def blends(self) -> Iterator[Blend]:
        """All blends by kind and tier."""
        yield from self.by_kind.values()
        yield from self.by_tier.values()

    @model_validator(mode="after")
    def something_is_learned(self) -> "Objectives":
        if not self.active:
            raise ValueError("sft: found 0, expected more than 0, or another objective with a weight: nothing would be learned")
        if "sft" in self.active and "process" in self.active:
            raise ValueError("process: is the cross entropy of sft with a schedule: write `sft: 0` beside it")
        for where, weights in self._weights():
            if weights.get("uld") and not any(weights.get(name) for name in SAYS_WORDS):
                raise ValueError(
                    f"{where}uld: compares sorted probabilities, which do not say which word is meant: give sft a weight, too"
                )
        return self

    def _weights(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield the place of each blend, "" for that of all examples, and the weights of its objectives."""
        usual = {name: self.weight(name) for name in OF_TOKENS}
        yield "", usual
        for path, section in (("by_kind", self.by_kind), ("by_tier", self.by_tier)):
            for key, blend in section.items():
                yield f"{path}.{key}.", usual | {name: weight for name, weight in blend if weight is not None}

    @model_validator(mode="after")
    def blends_name_ordered_objectives(self) -> "Objectives":
        sections = (("by_kind", self.by_kind), ("by_tier", self.by_tier))
        for path, key, blend in ((path, key, blend) for path, section in sections for key, blend in section.items()):
            for name, weight in blend:
                if weight is not None and name != "sft" and self.settings(name) is None:
                    raise ValueError(
                        f"{path}.{key}.{name}: {name} is not ordered; write `{name}: 0` in objectives for its parameters"
                    )
        return self
