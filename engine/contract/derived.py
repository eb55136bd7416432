"""Room 4: what else is learnt of answers besides the best ones: pairs for preference objectives, and boundary material."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section, Share
from engine.contract.checks import Check
from engine.contract.models import Model, Sampling
from engine.contract.teachers import Shot


class Preferences(Section):
    """Pairs of a chosen and a rejected answer to one prompt, for objectives such as DPO (Rafailov et al., 2023)."""

    rejected: tuple[Literal["hard", "contrast", "failure"], ...] = ("contrast",)
    """Pools whose answers may be rejected. A second accepted answer may be too, if it is less sure by `margin`."""
    margin: Share = 0.1
    """Least difference of confidence where no check, no rule and no person says that the other answer is worse."""
    length_ratio: float = Field(default=2.0, ge=1)
    """An answer is paired with none that is longer or shorter by more than this factor: what is learnt must not be length."""
    prefer: Literal["margin", "length"] = "margin"
    """Of several that could be rejected: the surest one to be worse, or the one most like the chosen in length."""
    most: Positive = 1
    """Pairs of one prompt."""


class CorrectionMaterial(Section):
    """The failed answer, what does not hold of it, and the accepted answer to the same prompt as the target."""

    type: Literal["correction"]
    say: str = "This does not hold: {fault}. Give the right answer."


class ContrastMaterial(Section):
    """Which judgement does not hold: a failed answer is shown, and what is wrong with it is the target."""

    type: Literal["contrast"]
    ask: str = "Somebody answered: {answer}\nDoes this hold?"
    holds: str = "Yes."
    """Said of the accepted answer to the same prompt, if there is one, so that the target is not always no."""
    fails: str = "No: {fault}."


class RefusalMaterial(Section):
    """Whether to stop: where no answer was accepted, the form without what the input does not say; if on_missing is abstain."""

    type: Literal["refusal"]


class AskMaterial(Section):
    """What to ask: the target names the fields that failed answers invented."""

    type: Literal["ask"]
    ask: str = "What is missing here?"
    says: str = "Please say: {missing}."


class RewriteMaterial(Section):
    """A model mends a failed answer whose prompt has no accepted one; that is the target, if it passes `checks`. Paid work."""

    type: Literal["rewrite"]
    model: Model
    checks: tuple[Check, ...] = Field(min_length=1)
    """What a mended answer must pass."""
    system: str = "You mend answers. Write the right answer in the same form, and nothing that the input does not say."
    ask: str = "{text}\n\nAnswer: {answer}\n\nThis does not hold: {fault}.\n\nThe right answer:"
    shots: tuple[Shot, ...] = ()
    """Worked examples of the mending: what was asked, and what became of it."""
    sampling: Sampling = Sampling(max_tokens=256)
    say: str = "This does not hold: {fault}. Give the right answer."
    """The student's last turn, after the failed answer."""

    @model_validator(mode="after")
    def one_answer_is_sampled(self) -> "RewriteMaterial":
        if self.sampling.n != 1:
            raise ValueError(f"sampling.n: found {self.sampling.n}, expected 1: a failed answer is mended once")
        return self


Boundary = Annotated[
    CorrectionMaterial | ContrastMaterial | RefusalMaterial | AskMaterial | RewriteMaterial, Field(discriminator="type")
]
