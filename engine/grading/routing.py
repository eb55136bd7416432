"""Where an answer goes: exactly one pool, with its reasons. Filtering routes, it does not delete.

The contract's rules are read first, then the built-in ones, of which the last holds for every answer.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.checks import TAGS, CheckResult, is_abstention
from engine.contract.judges import Accept
from engine.contract.pools import LEARNT, Pools, When
from engine.errors import ContractError

UNREADABLE = ("not_json", "off_schema")
UNCOMPARED = ("no_reference",)  # a check had nothing to compare with: no fault of the answer
BUILT_IN = Pools()
REASONS = (
    "accepted", "abstains", "samples_disagree", "low_confidence", "judge_unreadable", "judge_budget_exhausted",
    "unroutable", "outranked", "merged", "completed", "conflict_facts", "conflict_conditions", "conflict_conclusion",
    "person_right", "person_wrong", "person_corrected", "person_wrote",
    "finish_reason_length", "finish_reason_refused", "finish_reason_too_long", "finish_reason_error", "finish_reason_budget_exhausted",
)  # fmt: skip
"""Beside the tags of the checks and `rule:NAME` of the contract, which no other reason can look like."""


class Evidence(NamedTuple):
    """All that routing looks at."""

    answer: str
    finish_reason: str
    outcomes: Sequence[CheckResult]
    agreement: float | None
    confidence: float | None
    is_judged: bool
    """Whether a rubric was asked."""
    budget_exhausted: bool = False
    """Whether the rubric would have been asked, had the budget not been spent."""
    gates: bool = True
    """Whether the judge's confidence may decide; else it annotates."""
    rubric_spread: float | None = None
    """Between the rubrics, 0 to 1; None with fewer than two."""
    difficulty: str = ""
    relation: str = ""
    """One of rows.RELATIONS."""
    conflicts: tuple[str, ...] = ()
    """On what the teachers contradict each other, as reasons; only if such answers go to a person."""


class Route(NamedTuple):
    """One of `rows.POOLS` and why."""

    pool: str
    reasons: list[str]


def route(seen: Evidence, accept: Accept, pools: Pools = BUILT_IN) -> Route:
    """Return the pool of an answer. The rules are read in order; the first that holds decides."""
    failed = [outcome.tag for outcome in seen.outcomes if not outcome.passed]
    for rule in pools.rules:
        if holds(rule.when, seen) and (rule.to not in LEARNT or is_sound(seen.finish_reason, seen.outcomes)):
            return Route(rule.to, [f"rule:{rule.reason}", *failed])
    if seen.finish_reason == "unrouted":
        return Route("review", ["unroutable"])
    if seen.finish_reason != "stop":
        return Route("failure", [f"finish_reason_{seen.finish_reason}"])
    if any(tag in UNREADABLE for tag in failed):
        return Route("failure", failed)
    if failed and set(failed) <= {*UNCOMPARED}:
        return Route("review", failed)
    if failed:
        return Route("contrast", failed)
    if seen.agreement is not None and seen.agreement < accept.agreement:
        return Route("hard", ["samples_disagree"])
    return _judged(seen, accept)


def _judged(seen: Evidence, accept: Accept) -> Route:
    """Return the pool of a sound answer that its teacher repeats."""
    if seen.budget_exhausted:
        return Route("review", ["judge_budget_exhausted"])
    if seen.is_judged and seen.confidence is None:
        return Route("review", ["judge_unreadable"])
    if seen.gates and seen.confidence is not None and seen.confidence < accept.confidence:
        return Route("review", ["low_confidence"])
    if seen.conflicts:
        return Route("review", list(seen.conflicts))
    if is_abstention(seen.answer):
        return Route("refusal", ["accepted", "abstains"])
    return Route("train", ["accepted"])


def holds(when: When, seen: Evidence) -> bool:
    """Return whether all that `when` names holds of an answer."""
    failed = {outcome.tag for outcome in seen.outcomes if not outcome.passed}
    bands = (
        (when.confidence, seen.confidence if seen.gates else None),
        (when.agreement, seen.agreement),
        (when.rubric_spread, seen.rubric_spread),
    )
    sets = ((when.finish_reason, seen.finish_reason), (when.difficulty, seen.difficulty), (when.relation, seen.relation))
    return (
        (not when.failed or (bool(failed) and ("*" in when.failed or not failed.isdisjoint(when.failed))))
        and all(not allowed or value in allowed for allowed, value in sets)
        and all(band is None or value in band for band, value in bands)
        and (when.abstains is None or when.abstains == (seen.finish_reason == "stop" and is_abstention(seen.answer)))
    )


def confidence_tier(confidence: float | None, pools: Pools) -> int | None:
    """Return the tier of an answer, 0 for the surest; None without tiers or without a confidence."""
    if not pools.tiers or confidence is None:
        return None
    return sum(confidence < bound for bound in pools.tiers)


def check_tags(pools: Pools) -> None:
    """Raise ContractError if a rule names a tag that no check gives."""
    for number, rule in enumerate(pools.rules):
        if unknown := [tag for tag in rule.when.failed if tag != "*" and tag not in TAGS[1:]]:
            raise ContractError(
                f"judges.pools.rules.{number}.when.failed: found {unknown}, which no check gives. "
                f"Expected some of {', '.join(TAGS[1:])}, or * for any."
            )


def is_sound(finish_reason: str, outcomes: Sequence[CheckResult]) -> bool:
    """Return whether an answer is worth a judge's tokens: it ended by itself and passed every check."""
    return finish_reason == "stop" and all(outcome.passed for outcome in outcomes)
