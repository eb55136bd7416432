"""Whether a challenger in shadow is as good as it must be, from paired answers, looked at after every one.

Two questions, each answered by an e-process (`engine/stats/eprocess.py`), so that looking often makes no false alarm likelier:

1. Is its agreement with the reference above the contract's floor?
2. If there is a champion: is its agreement at most the margin below the champion's, on the same requests?

`promote` needs yes to both (each at delta: whoever should not be promoted fails one of them, and that one errs with probability
delta at most). `refuse` needs no to one (each at delta / 2). A decision stays: it was reached once, which is what the error rates
count. A challenger that fails has not given the reference's answer; a request that the reference did not answer counts for nothing.

The result of requests that came together (one user's) may be dependent; the promise holds as long as each pair agrees, given those
before, with a probability on the hypothesis' side.
"""

import math

from engine.contract.serving import Shadow
from engine.records.estimate import Estimate
from engine.records.shadow import ShadowState, ShadowView
from engine.stats import eprocess
from engine.stats.intervals import estimate

LARGEST = 700.0  # log of the largest e-value that is written


class ShadowTest:
    """Counts pairs and decides. `state` can be kept as JSON, and the test goes on from it."""

    def __init__(self, section: Shadow, state: ShadowState) -> None:
        self.section, self.state = section, state

    def observe(self, challenger: bool | None, champion: bool | None = None, *, has_reference: bool = True) -> ShadowState:
        """Count one request and return the new state.

        `challenger`, `champion`: whether the answer is the reference's; None: it failed (challenger), or was not asked (champion).
        """
        state = self.state
        if not has_reference:
            self.state = state.model_copy(update={"unpaired": state.unpaired + 1})
            return self.state
        counts = {
            "pairs": state.pairs + 1,
            "agreed": state.agreed + bool(challenger),
            "failed": state.failed + (challenger is None),
        }
        if champion is not None:
            key = "ties" if bool(challenger) == champion else "wins" if challenger else "losses"
            counts[key] = getattr(state, key) + 1
        self.state = _decided(state.model_copy(update=counts), self.section)
        return self.state

    def view(self) -> ShadowView:
        """Return what the pairs so far say."""
        state, section = self.state, self.section
        values = _log_e(state, section)
        return ShadowView(
            word=state.word,
            because=state.because or f"{state.pairs} pairs do not decide yet",
            agreement=agreement(state, section.delta),
            e_above=_exp(values[0]),
            e_below=_exp(values[1]),
            e_beside=_exp(values[2]) if _has_champion(state) else None,
            e_worse=_exp(values[3]) if _has_champion(state) else None,
            pairs=state.pairs,
        )


def agreement(state: ShadowState, delta: float) -> Estimate | None:
    """Return the share of pairs that agree with its confidence sequence of level 1 - `delta`; None without pairs."""
    if not state.pairs:
        return None
    low, high = eprocess.confidence_sequence(state.agreed, state.pairs, delta)
    return estimate(state.agreed / state.pairs, low, high, state.pairs)


def _decided(state: ShadowState, section: Shadow) -> ShadowState:
    """Return `state` with the word that its counts bring about."""
    if state.word != "keep watching" or state.pairs < section.least:
        return state
    above, below, beside, worse = _log_e(state, section)
    whole, half = -math.log(section.delta), -math.log(section.delta / 2)
    share = state.agreed / state.pairs
    seen = f"{share:.3f} of {state.pairs} answers are the reference's"
    if below >= half:
        return _end(state, "refuse", f"{seen}, and the rate is proven to be below the floor {section.floor:g}")
    if worse >= half:
        return _end(state, "refuse", f"{seen}, and the champion agrees oftener: {state.losses} against {state.wins} requests")
    if above >= whole and (beside >= whole or not _has_champion(state)):
        beside_champion = " and not worse than the champion" if _has_champion(state) else ""
        return _end(state, "promote", f"{seen}, and the rate is proven to be above the floor {section.floor:g}{beside_champion}")
    return state


def _end(state: ShadowState, word: str, because: str) -> ShadowState:
    return state.model_copy(update={"word": word, "because": because, "decided_at": state.pairs})


def _has_champion(state: ShadowState) -> bool:
    return bool(state.champion) or state.wins + state.losses + state.ties > 0


def _log_e(state: ShadowState, section: Shadow) -> tuple[float, float, float, float]:
    """Return the log e-values against: at most the floor, at least the floor, worse by the margin, not worse by the margin."""
    paired = (state.wins, state.losses, state.ties)
    return (
        float(eprocess.above(state.agreed, state.pairs, section.floor)),
        float(eprocess.below(state.agreed, state.pairs, section.floor)),
        float(eprocess.difference_above(*paired, section.margin)),
        float(eprocess.difference_below(*paired, section.margin)),
    )


def _exp(value: float) -> float:
    return math.exp(min(value, LARGEST))
