"""The section `capture`: the teachers' distributions at the target tokens of the examples."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.contract.base import Name, Positive, Section

MOST = 254  # entries of a token whose number, with the target's own, is one byte
SCORES = ("vllm", "student", "release", "fake", "endpoint")
"""Types of models that give log-probabilities of a text that they did not write."""


class Capture(Section):
    """What is captured of each target token: the most probable tokens, the target's own, and the mass of all others."""

    teachers: dict[Name, float] | None = None
    """Teachers and their weights in the mixture that a student learns from, `{a: 0.7, b: 0.3}`; a list weighs them equally. By
    default each example is scored by the teacher that answered it; one that no teacher wrote, by the first teacher."""
    k: int | None = Field(default=None, gt=0, le=MOST)
    """Most probable tokens of each distribution; 16 if neither `k` nor `mass` is given."""
    mass: float | None = Field(default=None, gt=0, lt=1)
    """In place of `k`: as few tokens as reach this share of the mass, such as 0.999."""
    most: int = Field(default=64, gt=0, le=MOST)
    """With `mass`: tokens at most."""
    constraint: Literal["none", "answer"] = "answer"
    """`answer`: tokens that the answer's own decoding schema forbids get no mass, the others are renormalised, as when the answer
    was written. A target that its schema does not allow (a refusal in words) is scored without. Needs models in this process."""
    gate: Literal["none", "agree"] = "none"
    """`agree`: students use only tokens where the teacher's first choice is the target. The agreement is stored for each token."""
    tokenizers: dict[Name, str] = Field(default_factory=dict)
    """Teacher of type `endpoint` -> folder or URL of its model's tokenizer and chat template: its texts are tokenized here."""

    @field_validator("teachers", mode="before")
    @classmethod
    def a_list_weighs_equally(cls, value: Any) -> Any:
        if isinstance(value, str) or (isinstance(value, list | tuple) and not all(isinstance(name, str) for name in value)):
            raise ValueError(f"found {value!r:.80}, expected a list of names of teachers, or a mapping of names to weights")
        if isinstance(value, list | tuple):
            if len(set(value)) < len(value):
                raise ValueError(f"names must differ, found {list(value)}")
            return dict.fromkeys(value, 1.0)
        return value

    @model_validator(mode="after")
    def weights_are_positive(self) -> "Capture":
        if self.teachers is not None and (not self.teachers or any(not 0 < weight < 1e9 for weight in self.teachers.values())):
            raise ValueError(f"teachers: found {self.teachers}, expected a positive weight for each; or drop the key")
        if self.k is not None and self.mass is not None:
            raise ValueError(f"found k {self.k} and mass {self.mass:g}, expected one of them")
        return self

    @property
    def entries(self) -> Positive:
        """Most entries of a token, without the target's own."""
        return self.most if self.mass is not None else self.k or 16
