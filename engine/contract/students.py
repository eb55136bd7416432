"""Students: models of several sizes that are trained at the same time."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, added, distinct
from engine.contract.exports import AnyExport, is_empty
from engine.contract.init import Init
from engine.contract.objectives import Objectives
from engine.contract.on_policy import OnPolicy

PLACEMENT = ("workers", "micro_batch_size", "zero")
"""Keys of a student that say on what its training is computed, and in which pieces. Losses agree up to the order of sums, so these
keys are no part of the recipe: a training goes on with other ones, and a finished student stays current."""


def _is_false(value: object) -> bool:
    """Return whether a key is left out of dumps, so that recipes that were hashed before it existed keep their hashes."""
    return value is False


class EarlyStop(Section):
    """Early stopping by the student's `metric`."""

    patience: Positive = 2
    """Number of validations without improvement after which training stops; with `schedule: wsd`, the decay of the rate begins."""
    min_delta: float = Field(default=0.0, ge=0)
    """Least improvement that counts: decrease of the validation loss, in nats per target token, or increase of the exact match, as
    a share. An equal exact match with a lower loss counts, too."""


class Student(Section):
    """One student."""

    name: Name
    init: Init
    objectives: Objectives = Objectives()
    freeze_embeddings: bool = True
    """Do not train the token embeddings and an output layer tied with them: that halves the work for a small model."""
    freeze_layers: int = Field(default=0, ge=0)
    """Number of first layers that are not trained. Useful where they are also the first layers of the source."""
    zero: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage (Rajbhandari et al., 2020) of several workers. A single one on a CPU has nothing to share: it computes
    in stage 0."""
    workers: Positive = 1
    """Data-parallel workers. Like `zero` and `micro_batch_size` no part of the recipe: a training that was interrupted goes on with
    another number, and losses differ by the order of floating-point sums."""
    epochs: Positive = 3
    """Times that each training example is seen, unless `max_steps` is given."""
    max_steps: Positive | None = added(None)
    """Optimizer steps at most, in place of `epochs`."""
    max_seconds: float | None = added(None, gt=0)
    """Seconds of training at most, validations included, over all attempts after a crash, in addition to `epochs` or `max_steps`.
    The record of a training that they end says so. Trainings of equal recipes then differ from machine to machine."""
    validate_steps: Positive | None = added(None)
    """Optimizer steps between validations, at most `max_steps`; null = one at the end of each epoch. There is always one after the
    last step."""
    metric: Literal["loss", "exact_match"] = added("loss")
    """What chooses the best model and stops early. `loss`: on the validation split; `exact_match`: the share of validation examples
    for which the model generates the example's `final`, that is the teacher's answer, compared as the report compares with
    references: as JSON where the task unit has a schema, else as text, word for word. Equal shares are decided by the loss."""
    metric_examples: Positive = added(64)
    """Examples of the validation split, evenly spread over task units and difficulties, for which `exact_match` generates; all of
    the split if it has fewer. They are the same ones for every seed."""
    decode: Literal["served", "free", "both"] = added("both")
    """How `exact_match` generates, always greedily. `served`: as the report asks a student, under the answer schema and spans of
    the prompt; `free`: without them, which shows what the grammar hides: a model that has not converged; `both`: each, and the
    mean of the two shares decides."""
    batch_size: Positive = 16
    """Examples per optimizer step over all workers."""
    micro_batch_size: Positive = 16
    """Most examples per forward pass of one worker; must divide a worker's share of the batch."""
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly; after them it follows `schedule`."""
    warmup_steps: int | None = added(None, ge=0)
    """Steps of the rise, in place of `warmup_ratio`; of use where the last step is not known before. They must be fewer than those
    of the training; between the cuts of `init.shrink`, `warmup_ratio` holds if they are no fewer than `recover_steps`."""
    schedule: Literal["cosine", "constant", "wsd"] = added("cosine")
    """Learning rate after the rise. `cosine`: falls to zero at the last step of `epochs` or `max_steps` (Loshchilov and Hutter,
    2017); a training that early stopping or `max_seconds` ends never reaches the low rates. `constant`: stays. `wsd`: warm-up,
    stable, decay (Hu et al., 2024, "MiniCPM", section 4): stays until the metric stops improving (`early_stop`), or the steps or
    seconds run out, and then falls to zero, so that the training ends converged."""
    decay_ratio: float = added(0.2, gt=0, lt=1)
    """Length of the decay of `wsd` as a share of all steps, those before it included."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Norm to which a larger gradient is clipped."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of matrix products and exported weights; the optimizer's copy of the weights is float32."""
    max_tokens: Positive = 512
    """Longest example in tokens; longer ones are left out and counted as `too_long`."""
    packing: bool = Field(default=False, exclude_if=_is_false)
    """Put several examples into one row of at most `max_tokens` tokens instead of padding each; none attends to another. Refused
    for a model that cannot keep them apart. Preference pairs are padded all the same."""
    curriculum: Literal["none", "confidence_tier", "difficulty"] = "none"
    """Order within an epoch: shuffled; the surest tier of `judges.pools.confidence_tiers` first; or the easiest first."""
    early_stop: EarlyStop | None = EarlyStop()
    checkpoint_steps: Positive = 20
    """Optimizer steps between checkpoints, which is the most that a crash costs."""
    seed: int = Field(default=0, ge=0)
    """Seed of all that is random in the training: the order of the examples, weights that are drawn, dropout."""
    seeds: Positive = added(1)
    """Trainings with the seeds `seed`, `seed` + 1, ...; as many at the same time as the cluster has room for. The best one, by
    `metric`, is the student; the record, the report and `rayleigh status` show how far the others are from it."""
    keep_seeds: bool = added(False)
    """Keep the models of the other seeds, too, in `seeds/SEED/model` of the student's artifact."""
    on_policy: OnPolicy | None = added(None)
    """Rounds of training on the student's own samples, after the training above and from its best weights; null = none."""
    exports: Annotated[tuple[AnyExport, ...], distinct(hint="; give one of them a `name`")] = Field(default=(), exclude_if=is_empty)
    """Further deployments of the trained student, beside its own safetensors folder. No part of the training's recipe."""

    @property
    def per_device_batch(self) -> int:
        """Examples per forward pass of one worker."""
        return min(self.micro_batch_size, self.batch_size // self.workers)

    @model_validator(mode="after")
    def batch_is_shared_evenly(self) -> "Student":
        if self.batch_size % self.workers:
            raise ValueError(f"batch_size: found {self.batch_size}, expected a multiple of workers, which is {self.workers}")
        share, micro = self.batch_size // self.workers, self.micro_batch_size
        if share % self.per_device_batch:
            raise ValueError(f"micro_batch_size: found {micro}, expected a divisor of a worker's share of the batch, {share}")
        return self

    @model_validator(mode="after")
    def has_trainable_layers(self) -> "Student":
        layers = self.init.layers
        if self.init.shrink and self.freeze_layers:
            raise ValueError("freeze_layers: found it with init.shrink, expected 0: which layers are left is not known before")
        if layers is not None and self.freeze_layers >= len(layers):
            raise ValueError(
                f"freeze_layers: found {self.freeze_layers}, expected less than the length of init.{self.init.kind}.layers, "
                f"{len(layers)}"
            )
        return self

    @model_validator(mode="after")
    def recovers_with_examples(self) -> "Student":
        shrink = self.init.shrink
        if shrink and shrink.steps > 1 and shrink.recover_steps and not self.objectives.reads_examples:
            raise ValueError(
                f"init.shrink.recover_steps: found {shrink.recover_steps}, expected 0 with objectives over pairs alone, which have "
                "their reference after the last cut. Add one over examples, such as sft, or cut in one step."
            )
        return self

    @model_validator(mode="after")
    def exports_have_a_runtime(self) -> "Student":
        if self.dtype == "float32" and (names := [each.name for each in self.exports if each.type in ("gptq", "awq")]):
            raise ValueError(f"dtype: found float32 with the export {names[0]}, expected bfloat16: vLLM has no such 4-bit layers")
        return self

    @model_validator(mode="after")
    def trains_the_adapter_only(self) -> "Student":
        if self.init.adapter and self.zero == 3:
            raise ValueError(
                "zero: found 3, expected 0 to 2 with init.adapter: the adapter is small, and stage 3 splits up the model's weights"
            )
        if self.init.adapter and not self.freeze_embeddings:
            raise ValueError("freeze_embeddings: found false, expected true with init.adapter, which is all that is trained")
        return self
