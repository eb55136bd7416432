"""Whether a student collapses: its answers to held-out prompts, measured, and compared with those before the first round."""

import math
from collections.abc import Sequence

import numpy as np

from engine.checks.repetition import WORD, ngrams
from engine.checks.result import prose
from engine.contract.on_policy import Guards
from engine.records.on_policy import HeldOut
from engine.rows import Row

GRAM = 3
ERRORS = 2.0
"""Standard errors of the difference of two scores that chance explains."""
LEAST_ENTROPY = 0.02
"""Nats; a student that was as sure before the first round has no entropy to lose."""


def measure(rows: Sequence[Row], scores: Sequence[float]) -> HeldOut:
    """Return what the SAMPLE `rows` of held-out prompts, with their `scores`, show."""
    tokens = [len(row["ids"]) for row in rows]
    logprob = sum(row["logprob"] or 0.0 for row in rows)
    return HeldOut(
        answers=len(rows),
        score=_mean(scores) if scores else None,
        score_error=round(float(np.std(scores, ddof=1)) / math.sqrt(len(scores)), 6) if len(scores) > 1 else 0.0,
        ended=_mean([row["finish_reason"] == "stop" for row in rows]),
        length=_mean(tokens),
        repetition=_mean([repeated(row["answer"]) for row in rows]),
        entropy=round(-logprob / max(1, sum(tokens)), 6) + 0.0,
    )


def repeated(answer: str) -> float:
    """Return the share of the 3-grams of words that repeat an earlier one, 0 to 1 (seq-rep-n: Welleck et al., 2020, section 6)."""
    grams = ngrams(WORD.findall(prose(answer).casefold()), GRAM)
    return (len(grams) - len(set(grams))) / len(grams) if grams else 0.0


def collapse(now: HeldOut, start: HeldOut, guards: Guards) -> str:
    """Return what has collapsed since `start`, in words; "" if nothing has."""
    found = []
    if not start.length / guards.length <= now.length <= start.length * guards.length:
        found.append(f"the mean length of the held-out answers went from {start.length:.1f} to {now.length:.1f} tokens")
    if now.repetition - start.repetition > guards.repetition:
        found.append(f"the share of repeated 3-grams rose from {start.repetition:.2f} to {now.repetition:.2f}")
    if start.entropy >= LEAST_ENTROPY and now.entropy < guards.entropy * start.entropy:
        found.append(f"the entropy of a token fell from {start.entropy:.3f} to {now.entropy:.3f} nats")
    chance = ERRORS * math.hypot(start.score_error, now.score_error)
    if (
        guards.score is not None
        and start.score is not None
        and now.score is not None
        and not now.score >= start.score - guards.score - chance  # also where it is no number
    ):
        found.append(f"the held-out score fell from {start.score:.3f} to {now.score:.3f}, beyond chance ({chance:.3f})")
    if not math.isfinite(now.entropy):
        found.append("the log-probabilities of the samples are no numbers")
    return "; ".join(found)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6) if len(values) else 0.0
