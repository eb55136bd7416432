"""Room 1: prompts that are written from seeds, by a model or a rule."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section
from engine.contract.models import Model, Sampling
from engine.contract.specialist import TaskUnit
from engine.contract.teachers import Shot

Layer = Literal["core", "failure_mode", "long_tail"]
Operator = Literal["deepen", "add_constraints", "concretise", "more_steps", "broaden"]


class SelfInstruct(Section):
    """Seeds are shown as examples, and one more of their kind is asked for (Wang et al., 2023, "Self-Instruct")."""

    type: Literal["self_instruct"]
    shown: Positive = 3
    """Seeds shown; the first is the parent."""


class Evolve(Section):
    """A seed becomes harder, or another in its neighbourhood (Xu et al., 2023, "WizardLM", Evol-Instruct)."""

    type: Literal["evolve"]
    operators: tuple[Operator, ...] = Field(default=get_args(Operator), min_length=1)
    """Taken in turn."""


class Paraphrase(Section):
    """A seed in other words; its numbers must be the same."""

    type: Literal["paraphrase"]


class CounterExample(Section):
    """A seed without a fact that its task needs, so that the right answer abstains. It counts only if a rule can prove that."""

    type: Literal["counter_example"]


Method = Annotated[SelfInstruct | Evolve | Paraphrase | CounterExample, Field(discriminator="type")]


class Synthesis(Section):
    """One way to more prompts. A failed one is a reject, a copy is dropped; neither counts towards what is `wanted`."""

    method: Method
    wanted: Positive | dict[Layer, Positive]
    """Prompts to add: in all, given to the layers that lack most of their share in `prompts.layers`; or a number a layer."""
    name: Name | None = None
    """What its prompts have as source, after `synthesize/`; the method's type if not given."""
    model: Model | None = None
    """Who writes; only counter-examples can be written without, by a rule that deletes sentences."""
    shots: tuple[Shot, ...] = ()
    """Worked examples of the rewriting: what was given, and what became of it."""
    sampling: Sampling = Sampling(temperature=0.8, top_p=0.95, max_tokens=256)
    """`n` must be 1 and `stop_after_verified` has no effect: the number of requests follows from `wanted`."""
    rounds: Positive = 2
    """After the first, each round asks again for what is still missing."""

    @property
    def title(self) -> str:
        """The name, or the method's type."""
        return self.name or self.method.type

    @model_validator(mode="after")
    def somebody_writes(self) -> "Synthesis":
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


def can_lack(unit: TaskUnit) -> bool:
    """Whether a prompt of `unit` can be shown to lack a fact: what is absent is null, and what could fill a field is known."""
    return unit.on_missing == "abstain" and bool(unit.output.spans)
