"""The section `judges.evidence`: what the confidence of an answer is computed from, beside or in place of the rubrics."""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, Share, distinct
from engine.contract.capture import SCORES
from engine.contract.teachers import Teacher

Kind = Literal[
    "logprob", "mean_logprob", "least_logprob", "field_logprobs", "least_field", "agreement", "teachers", "checks", "distance",
    "length",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
LIKELIHOOD: tuple[Kind, ...] = ("logprob", "mean_logprob", "least_logprob", "field_logprobs", "least_field")
"""Kinds for which the answers of labelled items are read by the teacher's model (prefill), once."""


class Evidence(Section):
    """Confidence = probability that an answer is right, from all evidence that is named here and from the rubrics, if there are
    any: a logistic model, fitted to the labelled items of `calibrate.gold`, cross-fitted by their groups, and calibrated. Where the
    items do not show that it is better than one number alone, that number alone decides."""

    of: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("logprob", "least_logprob", "agreement")
    """Kinds that need no call for an answer. `logprob`: log-probability of the answer under its teacher, the sum over its tokens;
    `mean_logprob`: per token; `least_logprob`: of the least likely token; `field_logprobs`: of the value of each field of the
    schema; `least_field`: of the least likely of these values; `agreement`: share of the teacher's samples with the same answer;
    `teachers`: share of the other teachers that give it; `checks`: share of the checks that passed; `distance`: of the prompt to
    the nearest labelled one (cosine of character n-grams); `length`: of the answer in characters."""
    readers: Annotated[tuple[Teacher, ...], distinct()] = ()
    """Models that read each answer and give its log-probability, each with a prompt of its own (`system`, `shots`); `sampling` has
    no effect. Paid from `budget.judge_tokens`."""
    tokenizers: dict[Name, str] = Field(default={})
    """Teacher or reader behind an endpoint -> folder or URL of its model's tokenizer, by which given answers are scored."""
    uncertain_between: tuple[Share, Share] | None = None
    """Rubrics and readers are asked only about answers whose confidence without them lies between these two; null: about all."""
    per_feature: Positive = 5
    """Labelled items of the rarer label for each number that is weighed; with fewer, one number alone decides."""

    @model_validator(mode="after")
    def kinds_differ(self) -> "Evidence":
        if len(set(self.of)) < len(self.of):
            raise ValueError(f"of: found {list(self.of)}, expected each kind once")
        return self

    @model_validator(mode="after")
    def uncertain_range_rises(self) -> "Evidence":
        if self.uncertain_between and self.uncertain_between[0] >= self.uncertain_between[1]:
            raise ValueError(f"uncertain_between: found {list(self.uncertain_between)}, expected the lower number first")
        return self

    @model_validator(mode="after")
    def readers_are_models(self) -> "Evidence":
        for number, reader in enumerate(self.readers):
            if not reader.answers or reader.thinks:
                what = "labels, which no model reads" if not reader.answers else "a model that reasons before it answers"
                raise ValueError(f"readers.{number}: found {what}; expected a model that reads an answer as it stands")
        return self

    def unreadable(self, teachers: Sequence[Teacher]) -> str:
        """Return which of `teachers`, if labelled items are read, and of the readers cannot read a given answer; "" if all can."""
        places = {f"of: {teacher.name}": teacher for teacher in teachers} if self.reads else {}
        places |= {f"readers.{number}.model": reader for number, reader in enumerate(self.readers)}
        for place, each in places.items():
            if each.model.type not in SCORES or not getattr(each.model, "logprobs", True):
                return f"{place}: gives no log-probabilities of given texts; leave out {', '.join(LIKELIHOOD)}, or use type vllm"
            if each.model.type == "endpoint" and each.name not in self.tokenizers:
                return f"tokenizers.{each.name}: is needed: the folder of the tokenizer of the endpoint's model"
        return ""

    @property
    def reads(self) -> bool:
        """Whether labelled items are read by their teacher's model."""
        return any(kind in LIKELIHOOD for kind in self.of)
