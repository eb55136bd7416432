"""Whether there is a further round: the stop signals of the report, and what the rounds themselves show."""

from collections.abc import Sequence

from engine.contract.iterate import Heed
from engine.evaluation.signals import EXHAUSTED
from engine.records.estimate import Estimate
from engine.records.rounds import RoundOutcome
from engine.records.worth import TITLES


def why_stop(outcome: RoundOutcome, heed: Sequence[Heed]) -> str:
    """Return why no round comes after that of `outcome`, in a sentence; "" = go on.

    A gain or a share of copies counts where its interval shows it, not where its point value does.
    """
    if "gain" in heed and outcome.gain and outcome.gain.high < outcome.worth:
        return f"gain: the round brought {signed(outcome.gain)} exact match, below the {outcome.worth:g} that is worth it."
    if "coverage" in heed and outcome.copies and outcome.copies.low > EXHAUSTED:
        return f"coverage: {outcome.copies.value:.0%} of the round's new rows were copies of known prompts."
    if outcome.advice in heed:
        return f"{TITLES[outcome.advice].lower()}: {' '.join(outcome.why)}"
    return ""


def signed(each: Estimate) -> str:
    """Return a difference with its interval."""
    return f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
