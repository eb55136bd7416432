"""All answers to a prompt together: how its teachers relate, and one answer made of those that complete each other."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.checks import CheckResult, canonical
from engine.contract.pools import Pools, Relations
from engine.grading.relations import Related, merge, relate
from engine.rows import content_id

COLUMNS = ["prompt_id", "relation", "confidence_tier", "parents"]
Row = dict[str, Any]


def beside(rows: Sequence[Mapping[str, Any]], sound: Sequence[bool], section: Relations) -> list[Related]:
    """Return for each answer how its prompt's teachers relate; each speaks by what most of its sound samples say.

    Answers that are not sound, and those of a lone teacher, relate to nothing.
    """
    said: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row, is_sound in zip(rows, sound, strict=True):
        if is_sound:
            said[row["prompt_id"]][row["teacher"]][canonical(row["answer"])] += 1
    found = {prompt: relate([most_said(votes) for votes in by.values()], section) for prompt, by in said.items() if len(by) > 1}
    alone = Related("")
    return [found.get(row["prompt_id"], alone) if is_sound else alone for row, is_sound in zip(rows, sound, strict=True)]


def most_said(votes: Counter[str]) -> str:
    """Return what most samples say; of several the first in the alphabet."""
    return min(votes, key=lambda answer: (-votes[answer], answer))


def merged(graded: Sequence[Row], pools: Pools, check: Callable[[Row], list[CheckResult]]) -> list[Row]:
    """Return CANDIDATE rows with those that are made of complementary accepted answers to a prompt; these go to `contrast`.

    An answer is made only if it passes every check. It is no more trusted than the least trusted of its parents.
    """
    accepted: dict[str, list[Row]] = defaultdict(list)
    for row in graded:
        if row["pool"] == "train" and row["relation"] == "complementary":
            accepted[row["prompt_id"]].append(row)
    whole = {prompt: made for prompt, rows in accepted.items() if (made := _one_of(rows, pools, check))}
    completed = {row["answer_id"] for prompt in whole for row in accepted[prompt]}
    out = {"pool": "contrast", "reasons": ["completed"]}
    return [*(row | out if row["answer_id"] in completed else row for row in graded), *whole.values()]


def _one_of(rows: Sequence[Row], pools: Pools, check: Callable[[Row], list[CheckResult]]) -> Row | None:
    best: dict[str, Row] = {}
    for row in sorted(rows, key=_surest):
        best.setdefault(row["teacher"], row)
    parents = list(best.values())
    if len(parents) < 2 or relate([row["answer"] for row in parents], pools.relations).relation != "complementary":
        return None  # the surest sample of a teacher need not say what most do
    known = [row["confidence"] for row in parents if row["confidence"] is not None]
    confidence = min(known) if len(known) == len(parents) else None
    tiers = [row["confidence_tier"] for row in parents]
    made = parents[0] | {
        "answer_id": content_id("merged", *sorted(row["answer_id"] for row in parents)),
        "answer": merge([row["answer"] for row in parents], pools.relations),
        "parents": [row["answer_id"] for row in parents],
        **{"teacher": "", "sample": 0, "seed": None, "reasoning": "", "trajectory": [], "logprob": None},
        **{"tokens_in": 0, "tokens_out": 0, "seconds": 0.0, "agreement": None, "confidence": confidence},
        **{"judge": "", "score": None, "dimension_scores": [], "rubric_spread": None, "judge_decides": False},
        **{"reasons": ["accepted", "merged"], "confidence_tier": None if None in tiers else max(tiers)},
    }
    made["checks"] = [outcome._asdict() for outcome in check(made)]
    return made if all(outcome["passed"] for outcome in made["checks"]) else None


def _surest(row: Row) -> tuple[float, float, int, str]:
    return -(row["confidence"] or 0.0), -(row["agreement"] or 0.0), len(row["answer"]), row["answer_id"]


def told(pieces: Iterable[pa.Table]) -> dict[str, Any]:
    """Return `relations` (of prompts), `tiers` (of answers) and how many answers were `merged`, from pieces with COLUMNS.

    All answers to a prompt are in one piece.
    """
    relations: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    count = 0
    for piece in pieces:
        related = piece.filter(pc.not_equal(pc.fill_null(piece["relation"], ""), ""))
        relations.update(related.group_by(["prompt_id", "relation"]).aggregate([])["relation"].to_pylist())
        tiers.update(str(value) for value in piece["confidence_tier"].drop_null().to_pylist())
        count += pc.sum(pc.greater(pc.list_value_length(piece["parents"]), 0)).as_py() or 0
    return {"relations": dict(sorted(relations.items())), "tiers": dict(sorted(tiers.items())), "merged": count}
