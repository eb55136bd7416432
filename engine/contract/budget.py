"""What may be spent, and what things cost. Prices change no row; a cap decides how many prompts are asked."""

from pydantic import Field

from engine.contract.base import Name, Positive, Section

MILLION = 1_000_000
HOUR = 3600  # seconds


class TokenPrice(Section):
    """What a million tokens cost."""

    per_1m_in: float = Field(default=0.0, ge=0)
    per_1m_out: float = Field(default=0.0, ge=0)


class Price(Section):
    """What a machine's hour and a teacher's tokens cost, in one currency."""

    currency: str = ""
    """Its name, as it is shown: EUR."""
    per_machine_hour: float = Field(default=0.10, ge=0)
    tokens: TokenPrice = TokenPrice()
    """Of every teacher that `teachers` does not name."""
    teachers: dict[Name, TokenPrice] = Field(default_factory=dict)

    def of(self, teacher: str) -> TokenPrice:
        """Return the price of the tokens of the teacher called `teacher`."""
        return self.teachers.get(teacher, self.tokens)

    def money(self, teacher: str, tokens_in: float, tokens_out: float, seconds: float) -> float:
        """Return what so many tokens of a teacher and so many seconds of a machine cost."""
        tokens = self.of(teacher)
        return (tokens_in * tokens.per_1m_in + tokens_out * tokens.per_1m_out) / MILLION + seconds / HOUR * self.per_machine_hour


class Budget(Section):
    """Caps and prices."""

    teacher_tokens: Positive | None = None
    """Tokens, in and out together, that all teachers may be paid for in this run folder; null = no cap. Once they are spent no
    prompt is asked any more: what is answered goes on down the line. Batches in flight are paid on top."""
    judge_tokens: Positive | None = None
    """The same for the judge: an answer that it was not asked to mark is for a person to `review`. Gold items are always marked."""
    price: Price = Price()
