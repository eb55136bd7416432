"""The section `judges.signals`: scores of an answer for data selection. Each is a column of the candidates, off by default."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from engine.contract.base import Section
from engine.contract.models import Model

Signal = Literal["complexity", "quality", "ifd", "density"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)


class Question(Section):
    """A question that a model answers with a rating; the signal is the expected value over the scale's token probabilities."""

    system: str = "You rate examples for training."
    question: str
    """`{text}`, the prompt, and `{answer}` are filled in."""
    scale: tuple[str, ...] = Field(default=("1", "2", "3", "4", "5", "6"), min_length=2)
    """Least to most; each value must be one token of the model. The first counts 1, the next 2, and so on."""


class Complexity(Question):
    """How complex a prompt is (DEITA: Liu et al., 2024, "What makes good data for alignment?", section 2.2)."""

    question: str = "Request:\n{text}\n\nHow complex is the request? Answer with a mark from 1 (plain) to 6 (very complex)."


class Quality(Question):
    """How good an answer is (DEITA, section 2.3)."""

    question: str = (
        "Request:\n{text}\n\nReply:\n{answer}\n\n"
        "How good is the reply to the request? Answer with a mark from 1 (bad) to 6 (excellent)."
    )


class Signals(Section):
    """Which signals are measured, and on the answers of which pools."""

    model: Model | None = None
    """Rates complexity and quality, and gives the losses of ifd; often the judge's model. Density needs none."""
    complexity: Complexity | None = None
    """null = not measured; `{}` asks the default question."""
    quality: Quality | None = None
    """null = not measured; `{}` asks the default question."""
    ifd: bool = False
    """Instruction-following difficulty: loss of the answer given the prompt over its loss alone (Li et al., 2024, "From quantity to
    quality", section 2.2). At 1 or above the prompt does not help to predict the answer."""
    density: bool = False
    """Compressed size of prompt and answer over their size in bytes: repetitive text has a low density (Yin et al., 2024, "Entropy
    law": the compression ratio of a data set predicts how well a model trained on it does)."""
    pools: tuple[Literal["train", "hard", "refusal"], ...] = ("train", "hard", "refusal")
    """Answers in other pools are not measured."""

    @model_validator(mode="after")
    def model_can_give_the_signals(self) -> "Signals":
        paid = [name for name in self.requested if name != "density"]
        if paid and self.model is None:
            raise ValueError(f"model: is needed for {', '.join(paid)}; name one, such as the judge's")
        if self.ifd and self.model and self.model.type == "endpoint":
            raise ValueError("ifd: found a model behind an endpoint, which gives no log probabilities of a prompt; use type vllm")
        return self

    @property
    def requested(self) -> tuple[Signal, ...]:
        """The signals that are measured."""
        return tuple(name for name in SIGNALS if getattr(self, name))
