"""Room 3: what the literature measures of an answer to pick by. Each is a column of the candidates; none is asked by default."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from engine.contract.base import Section
from engine.contract.models import Model

Signal = Literal["complexity", "quality", "ifd", "density"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)


class Question(Section):
    """What a model is asked to mark; read off the probabilities of the marks' tokens, as the expected mark."""

    system: str = "You rate examples for training."
    question: str
    """`{text}`, the prompt, and `{answer}` are filled in."""
    marks: tuple[str, ...] = Field(default=("1", "2", "3", "4", "5", "6"), min_length=2)
    """Least to most; each must be one token of the model. The first counts 1, the next 2, and so on."""


class Complexity(Question):
    """How much a prompt asks for (DEITA: Liu et al., 2024, "What makes good data for alignment?", section 2.2)."""

    question: str = "Request:\n{text}\n\nHow complex is the request? Answer with a mark from 1 (plain) to 6 (very complex)."


class Quality(Question):
    """How well an answer does it (the same, section 2.3)."""

    question: str = (
        "Request:\n{text}\n\nReply:\n{answer}\n\n"
        "How good is the reply to the request? Answer with a mark from 1 (bad) to 6 (excellent)."
    )


class Signals(Section):
    """What is measured of the answers in some pools."""

    model: Model | None = None
    """It gives the marks of complexity and quality, and the losses of ifd: often the judge's. Density needs none."""
    complexity: Complexity | None = None
    """null = not asked; `{}` asks the question of the default."""
    quality: Quality | None = None
    ifd: bool = False
    """Instruction-following difficulty: loss of the answer given the prompt over its loss alone (Li et al., 2024, "From quantity to
    quality", section 2.2). At 1 or above the prompt does not help to say the answer."""
    density: bool = False
    """Bytes that remain of prompt and answer when compressed, over all their bytes: what repeats itself is no signal (Yin et al.,
    2024, "Entropy law": a data set's compression ratio tells how much a model learns from it)."""
    pools: tuple[Literal["train", "hard", "refusal"], ...] = ("train", "hard", "refusal")
    """Answers in other pools are not measured."""

    @model_validator(mode="after")
    def paid_signals_have_a_model(self) -> "Signals":
        paid = [name for name in self.asked if name != "density"]
        if paid and self.model is None:
            raise ValueError(f"model: is needed for {', '.join(paid)}; name one, such as the judge's")
        if self.ifd and self.model and self.model.type == "endpoint":
            raise ValueError("ifd: found a model behind an endpoint, which gives no log probabilities of a prompt; use type vllm")
        return self

    @property
    def asked(self) -> tuple[Signal, ...]:
        """The signals that are measured."""
        wanted: dict[Signal, object] = {
            "complexity": self.complexity, "quality": self.quality, "ifd": self.ifd, "density": self.density
        }  # fmt: skip
        return tuple(name for name, value in wanted.items() if value)
