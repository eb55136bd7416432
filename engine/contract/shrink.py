"""Students that are cut from a larger model to a wanted number of parameters."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from engine.contract.base import NonEmpty, Positive, Section

SUFFIXES = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
MOST = 10**15  # parameters
WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([kmb]?)", re.IGNORECASE)


def _count(value: object) -> object:
    """Return `12M`, `1.5B` or `800k` as a number of parameters. A number stays: above 1 it is a count, below 1 a share."""
    match = WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and (match[2] or "." not in match[1]):
        value = float(match[1]) * SUFFIXES[match[2].lower()]
        value = value if value > MOST else round(value)
    elif match:
        value = float(match[1])
    if isinstance(value, float) and 1 <= value <= MOST and value.is_integer():
        return int(value)
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 < value <= MOST
    if whole or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError(
        f"found {value!r}, expected a number of parameters (12M, 1.5B, 12000000) or a share of the source below 1 (0.2)"
    )


class Shrink(Section):
    """Initialise a student by cutting a larger model to a wanted number of parameters, by measured importance."""

    source: NonEmpty
    """Folder or packaged name of the model that is cut."""
    to: Annotated[int | float, BeforeValidator(_count)]
    """Most parameters of the student, token table included (after `init.vocabulary`): `12M`, `1.5B`, a number, or a share of the
    source such as 0.2."""
    steps: Positive = 1
    """Number of cuts, each of the same share. Each but the last is followed by `recover_steps` of training with the student's
    objectives, the last by the training itself. Models recover well from about 30 % a cut (Muralidharan et al., 2024)."""
    recover_steps: int = Field(default=50, ge=0)
    """Optimizer steps between two cuts."""
    layers: Literal["influence", "ablation"] = "influence"
    """Importance of a layer: block influence, 1 - cosine of its input and output (Men et al., 2024), or by how much the loss rises
    without it, which costs one pass over the sample for each layer."""
    depth: bool = True
    """Whether layers may be left out."""
    width: bool = True
    """Whether attention heads (by key-value group) and feed-forward channels may be left out."""
    hidden: bool = False
    """Whether hidden channels may be left out, too: of all layers and the token table."""
    sample: Positive = 32
    """Training examples on which importance and the losses of shapes are measured; drawn by the student's seed."""
    candidates: Positive = 8
    """Most shapes of the wanted size that are tried at each cut. The one with the lowest loss on the sample is taken."""

    @property
    def summary(self) -> str:
        """In words, for people."""
        size = f"{self.to} parameters" if isinstance(self.to, int) else f"{self.to:g} of its parameters"
        return f"{self.source} cut to {size} by importance in {self.steps} {'step' if self.steps == 1 else 'steps'}"

    @model_validator(mode="after")
    def cuts_something(self) -> "Shrink":
        if not (self.depth or self.width or self.hidden):
            raise ValueError("depth, width and hidden: found false for all, expected true for at least one")
        return self
