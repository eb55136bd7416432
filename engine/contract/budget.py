"""The section `budget`: caps on tokens, and prices. Prices change no row; a cap decides how many prompts are answered."""

from typing import Annotated

from pydantic import AfterValidator, Field

from engine.contract.base import Name, Positive, Section, added

MILLION = 1_000_000
HOUR = 3600  # seconds
SYNTHESIS, SIGNALS, REPAIR, CAPTURE = "synthesis", "signals", "rewrite", "capture"
ON_POLICY, EVIDENCE = "on_policy", "evidence"
"""Payees of the consumers that the contract does not name; teachers, readers and rubrics are payees under their own names."""


def _apart(*payees: str) -> AfterValidator:
    """Refuse a name under which other tokens are noted already: the plan, the prices and the report would mix them up."""

    def check(name: str) -> str:
        if name in payees:
            raise ValueError(f"found {name!r}, under which other tokens of a run are counted; choose another name")
        return name

    return AfterValidator(check)


TeacherName = Annotated[Name, _apart(SYNTHESIS, SIGNALS, REPAIR, CAPTURE, ON_POLICY, EVIDENCE)]
"""The name of a teacher or reader; none of the payees that no contract names."""
RubricName = Annotated[Name, _apart(SIGNALS, EVIDENCE)]
"""The name of a rubric; none of the payees of the judges' tokens that no contract names."""


class TokenPrice(Section):
    """What a million tokens cost."""

    per_1m_in: float = Field(default=0.0, ge=0)
    per_1m_out: float = Field(default=0.0, ge=0)


class Price(Section):
    """Prices of a machine's hour, of a teacher's tokens and of a person's labels, in one currency."""

    currency: str = ""
    """Name of the currency, such as EUR; only shown."""
    per_machine_hour: float = Field(default=0.10, ge=0)
    tokens: TokenPrice = TokenPrice()
    """Price of every teacher that is not in `teachers`."""
    teachers: dict[Name, TokenPrice] = Field(default_factory=dict)
    per_correction: float = Field(default=0.0, ge=0, exclude_if=lambda price: not price)
    """What it costs that a person corrects a wrong answer, counted for every request that neither the student nor the teacher it
    falls back to answers right. Part of the cost of 1,000 right answers."""
    per_label: float = added(0.0, ge=0)
    """What a person's label costs: of an answer that was reviewed, of a labelled item of the judge, of a holdout row whose
    reference is by hand. Part of what the run cost."""

    def of(self, teacher: str) -> TokenPrice:
        """Return the price of the tokens of the teacher called `teacher`."""
        return self.teachers.get(teacher, self.tokens)

    def money(self, teacher: str, tokens_in: float, tokens_out: float, seconds: float) -> float:
        """Return the price of a teacher's tokens and of a machine's seconds."""
        tokens = self.of(teacher)
        return (tokens_in * tokens.per_1m_in + tokens_out * tokens.per_1m_out) / MILLION + seconds / HOUR * self.per_machine_hour


class Budget(Section):
    """Caps and prices."""

    teacher_tokens: Positive | None = None
    """Tokens, in and out together, that synthesis, teachers and repair may use in this run folder; null = no cap. Once they are
    spent, no further prompt is written, answered or repaired; the pipeline goes on with what is there. Batches in flight come on
    top."""
    judge_tokens: Positive | None = None
    """The same for judges and signals: an answer that the judge could not score goes to `review`. Gold items are always scored."""
    price: Price = Price()
