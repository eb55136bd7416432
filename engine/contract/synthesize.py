"""Prompts that are written from seeds, by a model or a rule."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section
from engine.contract.models import Model, Sampling
from engine.contract.specialist import TaskUnit
from engine.contract.teachers import Shot

Layer = Literal["core", "failure_mode", "long_tail"]
Operator = Literal["deepen", "add_constraints", "concretise", "more_steps", "broaden"]


class SelfInstruct(Section):
    """Write a prompt like the seeds that are shown as examples (Wang et al., 2023, "Self-Instruct")."""

    type: Literal["self_instruct"]
    num_examples: Positive = 3
    """Seeds that are shown; the first is the parent."""


class Evolve(Section):
    """Make a seed harder, or write a rarer one of its domain (Xu et al., 2023, "WizardLM", Evol-Instruct)."""

    type: Literal["evolve"]
    operators: tuple[Operator, ...] = Field(default=get_args(Operator), min_length=1)
    """Used round-robin."""


class Paraphrase(Section):
    """Rephrase a seed; its numbers must stay the same."""

    type: Literal["paraphrase"]


class CounterExample(Section):
    """Remove a fact that the task needs, so that the right answer abstains; a rule verifies that the fact is absent."""

    type: Literal["counter_example"]


Method = Annotated[SelfInstruct | Evolve | Paraphrase | CounterExample, Field(discriminator="type")]


class Synthesis(Section):
    """One method of writing prompts. Rejects and copies do not count towards `wanted`."""

    method: Method
    wanted: Positive | dict[Layer, Positive]
    """Prompts to add: a total, divided by what the layers lack of `prompts.layers`; or a number for each layer."""
    name: Name | None = None
    """Its prompts have the source `synthesize/NAME`; null: the method's type."""
    model: Model | None = None
    """The model that writes. Null: a rule deletes sentences, only for counter_example."""
    shots: tuple[Shot, ...] = ()
    """Worked examples of the rewriting: a prompt, and the prompt written from it."""
    sampling: Sampling = Sampling(temperature=0.8, top_p=0.95, max_tokens=256)
    """`n` must be 1 and `stop_after_verified` has no effect: the number of requests follows from `wanted`."""
    rounds: Positive = 2
    """Each round after the first requests the prompts that are still missing."""

    @property
    def title(self) -> str:
        """`name`, or the method's type."""
        return self.name or self.method.type

    @model_validator(mode="after")
    def model_is_given(self) -> "Synthesis":
        if self.model is None and self.method.type != "counter_example":
            raise ValueError(f"model: is needed by the method {self.method.type}; only counter_example has a rule instead")
        return self

    @model_validator(mode="after")
    def counter_examples_are_failure_modes(self) -> "Synthesis":
        other = sorted({*self.wanted} - {"failure_mode"}) if isinstance(self.wanted, dict) else []
        if self.method.type == "counter_example" and other:
            raise ValueError(f"wanted: found {other}, a counter_example is always of the layer failure_mode; give a number")
        return self

    @model_validator(mode="after")
    def one_answer_is_sampled(self) -> "Synthesis":
        if self.sampling.n != 1:
            raise ValueError(f"sampling.n: found {self.sampling.n}, expected 1; how many prompts are written follows from `wanted`")
        return self


def supports_counter_examples(unit: TaskUnit) -> bool:
    """Return whether the absence of a fact can be verified for prompts of `unit`: absent fields are null, and fields are spans."""
    return unit.on_missing == "abstain" and bool(unit.output.spans)
