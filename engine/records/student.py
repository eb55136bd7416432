"""What the training of a student measured."""

from typing import Literal

from pydantic import Field

from engine.records.base import Record
from engine.records.on_policy import OnPolicyMetrics


class CutRecord(Record):
    """One cut of `init.shrink`, and the shape that it left: the best of those tried on the sample, without training."""

    target: int
    """Most parameters that the cut had to leave."""
    parameters: int
    """Parameters that it left; tied ones count once."""
    layers: int
    """Decoder layers."""
    heads: int
    """Query heads of a layer."""
    kv_heads: int
    """Key-value heads of a layer."""
    intermediate: int
    """Feed-forward channels of a layer."""
    hidden: int
    """Hidden size."""
    tried: int
    """Shapes whose loss was measured."""
    loss_before: float
    """Nats per target token on the sample before the cut."""
    loss: float
    """The same after it, before any training."""


class StudentShape(Record):
    """What `init.shrink` kept of the source."""

    layers: list[int]
    """Decoder layers of the source that are left, in order."""
    head_size: int
    """Size of an attention head, which stays."""
    measure: str
    """How the importance of layers was measured: influence or ablation."""
    layer_importance: list[float]
    """Of each layer of the source, before the first cut."""
    cuts: list[CutRecord]
    """In order; the last one has the student's own sizes."""
    recover_steps: int
    """Optimizer steps between the cuts, all together."""
    seconds: float
    """Seconds of the cuts and of the training between them."""

    @property
    def last(self) -> CutRecord:
        """The cut that left the student."""
        return self.cuts[-1]

    def as_text(self) -> str:
        """Return the shape in one line."""
        cut, importance = self.last, self.layer_importance
        kept, every = ", ".join(map(str, self.layers)), ", ".join(f"{index}: {value:.2g}" for index, value in enumerate(importance))
        path = " -> ".join(f"{each.parameters / 1e6:.3g} M (loss {each.loss:.2f})" for each in self.cuts)
        return (
            f"{cut.layers} layers ({kept} of {len(importance)}), {cut.heads} query heads and {cut.kv_heads} key-value heads of "
            f"{self.head_size}, feed-forward {cut.intermediate}, hidden {cut.hidden}; cut to {path}; {self.measure} of each layer: "
            f"{every}"
        )


def _empty(value: object) -> bool:
    return not value


class PreferenceAudit(Record):
    """The preference pairs of one split, as they were tokenized."""

    pairs: int
    """Pairs that are learned."""
    too_long: int
    """Pairs with an answer that makes an example of more than `max_tokens` tokens; left out."""
    equal: int
    """Pairs whose two answers are the same tokens; left out."""
    length_ratio: float
    """Mean of the chosen answer's tokens over those of the rejected one: far above 1, the student learns length first."""
    chosen_longer: float
    """Share of pairs whose chosen answer has more tokens."""
    margin: float
    """Mean difference of confidence, chosen less rejected."""


class TrainingSetup(Record):
    """Model and data of a training, as they were loaded."""

    parameters: int
    """Of the student; tied ones count once."""
    source_parameters: int
    """Of the model that it was made from."""
    source_layers: int
    """Decoder layers of that model."""
    examples: dict[str, int]
    """Split (train, validation) -> examples."""
    too_long: int
    """Examples of more than `max_tokens` tokens, which were left out."""
    shape: StudentShape | None = None
    """What `init.shrink` kept; null for another `init`."""
    preferences: dict[str, PreferenceAudit] = Field(default={}, exclude_if=_empty)
    """Split -> its preference pairs; empty without an objective that reads them."""
    covered: dict[str, float] = Field(default={}, exclude_if=_empty)
    """Split -> share of its target tokens, by weight, at which the teacher's distribution is used; empty without an objective that
    reads it."""


class ValidationLoss(Record):
    """Nats per target token on the validation split."""

    final: float
    """After the last step."""
    best: float
    """Of the exported weights: the lowest one, or that of the best `metric`."""
    best_step: int
    """Optimizer step of the exported weights."""


EndedBy = Literal["", "epochs", "max_steps", "max_seconds", "early_stop", "diverged"]
"""`diverged`: the loss of a step was no number, so that no later weights are."""


class SeedMetrics(Record):
    """One training of a student."""

    seed: int
    loss: float
    """Validation loss of its best weights, nats per target token."""
    metric: float | None = None
    """What chose them, if it is not the loss: the mean of `served` and `unconstrained`, as far as they were measured."""
    served: float | None = None
    """Share of exact answers under the answer schema and spans of the prompt, 0 to 1; null = not measured."""
    unconstrained: float | None = None
    """Share of exact answers without them."""
    best_step: int
    """Optimizer step of its best weights."""
    steps: int
    seconds: float
    """In all attempts, up to the last checkpoint."""
    ended_by: EndedBy


class Spread(Record):
    """A measurement over the seeds of a student."""

    mean: float
    sd: float
    """Standard deviation, of a sample: over n - 1."""
    min: float
    max: float


class Resized(Record):
    """A training that went on with another number of workers."""

    step: int
    """Optimizer step from which it went on."""
    before: int
    """Workers up to that step."""
    after: int
    """Workers from then on."""


class StudentMetrics(Record):
    """Metrics of the artifact `students/NAME`."""

    name: str
    """The student's name in the contract."""
    parameters: int
    """Parameters of the student; tied ones count once."""
    source: str
    """Folder or packaged name of the model that the initial weights are from; `champion` for a released student."""
    source_parameters: int
    """Parameters of that model."""
    source_layers: int
    """Decoder layers of that model."""
    layers: list[int]
    """Decoder layers of that model that the student keeps."""
    shape: StudentShape | None = None
    """What `init.shrink` kept, and by which importance; null for another `init`."""
    zero: int
    """DeepSpeed ZeRO stage that the contract orders."""
    workers: int
    """Data-parallel workers."""
    validation_loss: ValidationLoss
    steps: int = Field(ge=0)
    """Optimizer steps."""
    tokens: int
    """Target tokens that were learned, over all epochs."""
    seconds: float
    """Seconds of training in all attempts, up to the last checkpoint."""
    stopped_early: bool
    """Whether the patience of `early_stop` ended the training."""
    resumed_from: list[int]
    """Steps from which a later attempt continued after a crash."""
    ended_by: EndedBy = ""
    """What ended the training; "" in records that are older than the key."""
    seed: int | None = None
    """Of the exported model; null in records that are older than the key."""
    seeds: tuple[SeedMetrics, ...] = ()
    """Every training, by seed."""
    spread: dict[str, Spread] = Field(default_factory=dict)
    """`loss`, `metric`, `served`, `unconstrained` -> over the seeds, of their best weights; {} with one seed."""
    resized: tuple[Resized, ...] = ()
    """Those of them that had another number of workers; losses agree up to the order of floating-point sums."""
    preferences: dict[str, PreferenceAudit] = Field(default={}, exclude_if=_empty)
    """Split -> its preference pairs; empty without an objective that reads them."""
    on_policy: OnPolicyMetrics | None = Field(default=None, exclude_if=_empty)
    """The rounds on its own samples; null without `on_policy` in the contract."""
