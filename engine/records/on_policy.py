"""What the rounds of on-policy training measured."""

from typing import Literal

from engine.records.base import Record

Ending = Literal["rounds", "no_signal", "collapse", "budget"]


class HeldOut(Record):
    """A student's answers to the held-out prompts, one sample each."""

    answers: int
    score: float | None
    """Mean reward; or minus the divergence from the teacher, in nats per token: the mean of log-probability ratios. Null if the
    budget reached none of them."""
    score_error: float = 0.0
    """Standard error of the score, over the answers."""
    ended: float
    """Share of answers that ended by themselves."""
    length: float
    """Mean tokens of an answer."""
    repetition: float
    """Mean share of an answer's 3-grams that repeat an earlier one."""
    entropy: float
    """Mean negative log-probability of the sampled tokens, nats: at temperature 1 an estimate of the entropy."""


class RoundMetrics(Record):
    """One round: what the student answered before it learned from it, and what it learned."""

    round: int
    """From 1."""
    held_out: HeldOut
    """Before this round's training; with `async_level: 1` also before that of the round before."""
    prompts: int
    """Training prompts that were answered."""
    samples: int
    """Answers to them."""
    learned: int = 0
    """Those of them that were learned from; 0 if the rounds ended before."""
    score: float | None
    """As of the held-out answers, of the training prompts."""
    no_signal: float | None = None
    """Share of the groups whose rewards are all equal; null without rewards."""
    aligned: float | None = None
    """Share of the sampled tokens on which the teacher's distribution could be laid; null without a teacher."""
    steps: int = 0
    """Optimizer steps."""
    tokens: int = 0
    """Sampled tokens that were learned."""
    loss: float | None = None
    """Mean over the steps; null without any, or if one is no number."""
    seconds: float = 0.0
    """Of the whole round, without what earlier attempts had done of it. With `async_level: 1`, from the end of the round
    before: what was sampled while that one trained is not in it, only the wait for the rest."""
    checkpoint: str = ""
    """Folder of its weights, below that of the rounds."""


class OnPolicyMetrics(Record):
    """The rounds of a student."""

    objective: Literal["on_policy_kl", "grpo"]
    rounds: tuple[RoundMetrics, ...]
    final: HeldOut
    """Of the weights that were kept."""
    kept: int
    """Round whose weights are the student; 0 = those of the training on examples."""
    ended_by: Ending
    """`rounds`: all were done."""
    why: str = ""
    """What ended them earlier, in words."""

    @property
    def start(self) -> HeldOut:
        """Before the first round."""
        return self.rounds[0].held_out if self.rounds else self.final
