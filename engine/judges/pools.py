"""Where an answer goes: exactly one pool, with its reasons. Filtering routes, it does not delete."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.checks import Outcome, is_abstention
from engine.contract.judges import Accept

UNREADABLE = ("not_json", "off_schema")
REASONS = (
    "accepted", "abstains", "samples_disagree", "low_confidence", "judge_unreadable", "judge_unpaid",
    "unroutable", "outranked",
    "ending_length", "ending_refused", "ending_too_long", "ending_error", "ending_unpaid",
)  # fmt: skip
"""Beside the tags of the checks."""


class Evidence(NamedTuple):
    """All that routing looks at."""

    answer: str
    ending: str
    outcomes: Sequence[Outcome]
    agreement: float | None
    confidence: float | None
    is_judged: bool
    """Whether a rubric was asked."""
    is_unpaid: bool = False
    """Whether the rubric would have been asked, had the budget not been spent."""
    gates: bool = True
    """Whether the judge's confidence may decide; else it annotates."""
    disagreement: float | None = None
    """Between the rubrics, 0 to 1; None with fewer than two."""
    difficulty: str = ""


class Route(NamedTuple):
    """One of `rows.POOLS` and why."""

    pool: str
    reasons: list[str]


def route(seen: Evidence, accept: Accept) -> Route:
    """Return the pool of an answer. The rules are read in order; the first that holds decides."""
    failed = [outcome.tag for outcome in seen.outcomes if not outcome.passed]
    if seen.ending == "unrouted":
        return Route("review", ["unroutable"])
    if seen.ending != "stop":
        return Route("failure", [f"ending_{seen.ending}"])
    if any(tag in UNREADABLE for tag in failed):
        return Route("failure", failed)
    if failed:
        return Route("contrast", failed)
    if seen.agreement is not None and seen.agreement < accept.agreement:
        return Route("hard", ["samples_disagree"])
    if seen.is_unpaid:
        return Route("review", ["judge_unpaid"])
    if seen.is_judged and seen.confidence is None:
        return Route("review", ["judge_unreadable"])
    if seen.gates and seen.confidence is not None and seen.confidence < accept.confidence:
        return Route("review", ["low_confidence"])
    if is_abstention(seen.answer):
        return Route("refusal", ["accepted", "abstains"])
    return Route("train", ["accepted"])


def is_sound(ending: str, outcomes: Sequence[Outcome]) -> bool:
    """Return whether an answer is worth a judge's tokens: it ended by itself and passed every check."""
    return ending == "stop" and all(outcome.passed for outcome in outcomes)
