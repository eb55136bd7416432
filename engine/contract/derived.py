"""What else is learnt from answers besides the best ones (section `curation`): preference pairs, contrastive examples, variants."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section, Share
from engine.contract.checks import Check
from engine.contract.models import Model, Sampling
from engine.contract.teachers import Shot

if TYPE_CHECKING:
    from engine.contract.contract import Contract


class Preferences(Section):
    """Pairs of a chosen and a rejected answer to one prompt, for objectives such as DPO (Rafailov et al., 2023)."""

    rejected: tuple[Literal["hard", "contrast", "failure"], ...] = ("contrast",)
    """Pools whose answers may be rejected. An accepted answer may be rejected, too, if its confidence is lower by `margin`."""
    margin: Share = 0.1
    """Least difference of confidence, unless a check, a rule or a person decided that the other answer is worse."""
    length_ratio: float = Field(default=2.0, ge=1)
    """Largest ratio of the two answers' lengths, in characters: the student must not learn length instead of quality."""
    prefer: Literal["margin", "length"] = "margin"
    """Which of several possible pairs comes first: the one with the largest margin, or the one with the most equal lengths."""
    max_per_prompt: Positive = 1
    """Most pairs of one prompt."""


class CorrectionExamples(Section):
    """The failed answer and its fault as turns; the target is the accepted answer to the same prompt."""

    type: Literal["correction"]
    feedback_template: str = "This does not hold: {fault}. Give the right answer."
    """The last user turn, after the failed answer."""


class ContrastExamples(Section):
    """An answer is shown and the student judges it: a failed answer, and the accepted answer to the same prompt if there is one."""

    type: Literal["contrast"]
    prompt_template: str = "Somebody answered: {answer}\nDoes this hold?"
    reply_if_right: str = "Yes."
    """Target for the accepted answer, so that the target is not always no."""
    reply_if_wrong: str = "No: {fault}."
    """Target for the failed answer."""


class RefusalExamples(Section):
    """The target leaves out what the input does not state. Needs `on_missing: abstain`, and a prompt without accepted answer."""

    type: Literal["refusal"]


class QuestionExamples(Section):
    """The target asks for the fields that failed answers invented."""

    type: Literal["ask"]
    prompt_template: str = "What is missing here?"
    reply_template: str = "Please say: {missing}."


class RepairExamples(Section):
    """A model repairs a failed answer whose prompt has no accepted one; the target is its reply, if `checks` pass. Paid work."""

    type: Literal["rewrite"]
    model: Model
    checks: tuple[Check, ...] = Field(min_length=1)
    """Checks that a repaired answer must pass."""
    system: str = "You mend answers. Write the right answer in the same form, and nothing that the input does not say."
    prompt_template: str = "{text}\n\nAnswer: {answer}\n\nThis does not hold: {fault}.\n\nThe right answer:"
    """What the model is asked."""
    shots: tuple[Shot, ...] = ()
    """Worked examples of repairs: what was asked, and the reply."""
    sampling: Sampling = Sampling(max_tokens=256)
    feedback_template: str = "This does not hold: {fault}. Give the right answer."
    """The student's last user turn, after the failed answer."""

    @model_validator(mode="after")
    def one_answer_is_sampled(self) -> "RepairExamples":
        if self.sampling.n != 1:
            raise ValueError(f"sampling.n: found {self.sampling.n}, expected 1: each failed answer is repaired once")
        return self


ContrastiveExamples = Annotated[
    CorrectionExamples | ContrastExamples | RefusalExamples | QuestionExamples | RepairExamples, Field(discriminator="type")
]


class Swaps(Section):
    """Variants of training examples with other values in the fields that are quoted from the prompt (`output.spans`).

    They are made by rule and cost no token: what is learnt is to copy from where the value stands (`engine/curation/swaps.py`).
    """

    per_example: Positive = 3
    """Variants of each training example that quotes a value."""
    fields: dict[str, Literal["values", "digits"]] = Field(default={})
    """Field -> what stands for its value: that of another example, or other digits of the same count, as for order numbers. A field
    that is not named keeps its value; {} = `values` for all fields of `output.spans`."""


def swap_problems(contract: "Contract") -> Iterator[str]:
    """Yield why `curation.swaps` does not fit the contract's task units."""
    swaps = contract.curation.swaps
    if swaps is None:
        return
    quoted = sorted({field for unit in contract.specialist.task_units for field in unit.output.spans})
    if not quoted:
        yield "curation.swaps: needs a task unit with output.spans: fields quoted from the prompt; add them, or leave it out"
    elif unknown := sorted(set(swaps.fields) - set(quoted)):
        yield f"curation.swaps.fields: found {unknown}, expected fields of output.spans: {quoted}"
