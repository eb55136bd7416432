"""Routing: every answer goes to exactly one pool, with its reasons. No answer is deleted.

The contract's rules are tried first, then the built-in ones, of which the last holds for every answer.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.checks import NOT_COMPARED, TAGS, CheckResult, is_abstention
from engine.contract.judges import Accept
from engine.contract.pools import TRAINING_POOLS, Pools, When
from engine.errors import ContractError

UNREADABLE = ("not_json", "off_schema")
BUILT_IN = Pools()
REASONS = (
    "accepted", "abstains", "samples_disagree", "low_confidence", "judge_unreadable", "judge_budget_exhausted",
    "judge_lost", "unroutable", "outranked", "merged", "completed",
    "conflict_facts", "conflict_conditions", "conflict_conclusion",
    "person_right", "person_wrong", "person_corrected", "person_wrote",
    "finish_reason_length", "finish_reason_refused", "finish_reason_too_long", "finish_reason_error",
    "finish_reason_budget_exhausted",
)  # fmt: skip
"""All reasons but the tags of failed checks and `rule:NAME` of the contract's rules."""


class Evidence(NamedTuple):
    """All that routing depends on."""

    answer: str
    finish_reason: str
    outcomes: Sequence[CheckResult]
    agreement: float | None
    confidence: float | None
    is_judged: bool  # a judge was asked whose confidence decides
    budget_exhausted: bool = False  # the judge was not asked, as the budget was spent
    judge_lost: bool = False  # the judge was asked without an answer
    judge_decides: bool = True  # the judge's confidence decides; else it is only recorded
    rubric_spread: float | None = None  # largest less smallest score of the rubrics, 0 to 1; None with fewer than two
    difficulty: str = ""
    relation: str = ""  # one of rows.RELATIONS
    conflicts: tuple[str, ...] = ()  # conflicts between teachers as reasons; () unless such answers go to review


class Route(NamedTuple):
    """Where an answer goes."""

    pool: str  # one of rows.POOLS
    reasons: list[str]


def route(evidence: Evidence, accept: Accept, pools: Pools = BUILT_IN) -> Route:
    """Return the pool of an answer: that of the first rule that holds, else that of the built-in rules."""
    failed = [outcome.tag for outcome in evidence.outcomes if not outcome.passed]
    for rule in pools.rules:
        if holds(rule.when, evidence) and (rule.to not in TRAINING_POOLS or is_sound(evidence.finish_reason, evidence.outcomes)):
            return Route(rule.to, [f"rule:{rule.reason}", *failed])
    if evidence.finish_reason == "unrouted":
        return Route("review", ["unroutable"])
    if evidence.finish_reason != "stop":
        return Route("failure", [f"finish_reason_{evidence.finish_reason}"])
    if any(tag in UNREADABLE for tag in failed):
        return Route("failure", failed)
    if failed and set(failed) <= {*NOT_COMPARED}:
        return Route("review", failed)
    if failed:
        return Route("contrast", failed)
    if evidence.agreement is not None and evidence.agreement < accept.agreement:
        return Route("hard", ["samples_disagree"])
    return _judged(evidence, accept)


def _judged(evidence: Evidence, accept: Accept) -> Route:
    """Return the pool of a sound answer whose samples agree."""
    if evidence.budget_exhausted:
        return Route("review", ["judge_budget_exhausted"])
    if evidence.is_judged and evidence.confidence is None:
        return Route("review", ["judge_lost" if evidence.judge_lost else "judge_unreadable"])
    if evidence.judge_decides and evidence.confidence is not None and evidence.confidence < accept.confidence:
        return Route("review", ["low_confidence"])
    if evidence.conflicts:
        return Route("review", list(evidence.conflicts))
    if is_abstention(evidence.answer):
        return Route("refusal", ["accepted", "abstains"])
    return Route("train", ["accepted"])


def holds(when: When, evidence: Evidence) -> bool:
    """Return whether every condition of `when` holds for an answer."""
    failed = {outcome.tag for outcome in evidence.outcomes if not outcome.passed}
    bands = (
        (when.confidence, evidence.confidence if evidence.judge_decides else None),
        (when.agreement, evidence.agreement),
        (when.rubric_spread, evidence.rubric_spread),
    )
    sets = [(getattr(when, name), getattr(evidence, name)) for name in ("finish_reason", "difficulty", "relation")]
    return (
        (not when.failed or (bool(failed) and ("*" in when.failed or not failed.isdisjoint(when.failed))))
        and all(not allowed or value in allowed for allowed, value in sets)
        and all(band is None or value in band for band, value in bands)
        and (when.abstains is None or when.abstains == (evidence.finish_reason == "stop" and is_abstention(evidence.answer)))
    )


def confidence_tier(confidence: float | None, pools: Pools) -> int | None:
    """Return the tier of an answer, 0 for the most confident; None without tiers or without a confidence."""
    if not pools.confidence_tiers or confidence is None:
        return None
    return sum(confidence < bound for bound in pools.confidence_tiers)


def check_tags(pools: Pools) -> None:
    """Check the tags in the contract's rules.

    Raises:
        ContractError: a rule names a tag that no check gives.
    """
    for number, rule in enumerate(pools.rules):
        if unknown := [tag for tag in rule.when.failed if tag != "*" and tag not in TAGS[1:]]:
            raise ContractError(
                f"judges.pools.rules.{number}.when.failed: found {unknown}, which no check gives. "
                f"Expected some of {', '.join(TAGS[1:])}, or * for any."
            )


def is_sound(finish_reason: str, outcomes: Sequence[CheckResult]) -> bool:
    """Return whether an answer finished by itself and passed every check; only such answers are judged and trained on."""
    return finish_reason == "stop" and all(outcome.passed for outcome in outcomes)
