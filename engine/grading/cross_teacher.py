"""The answers of all teachers to one prompt: how they relate, and a merged answer where they complement each other."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.checks import CheckResult, canonical
from engine.contract.pools import Pools, Relations
from engine.grading.rank import most_trusted_first
from engine.grading.relations import Relation, merge, relate
from engine.rows import Row, content_id

COLUMNS = ["prompt_id", "relation", "confidence_tier", "parents"]


def relate_teachers(rows: Sequence[Row], sound: Sequence[bool], section: Relations) -> list[Relation]:
    """Return for each row how the teachers of its prompt relate; each is represented by its most frequent sound answer.

    Unsound answers, and answers of the only teacher of a prompt, have the relation "".
    """
    relations = {
        prompt_id: relate([majority(counts) for counts in by_teacher.values()], section)
        for prompt_id, by_teacher in _votes(rows, sound).items()
    }
    none = Relation("")
    return [relations.get(row["prompt_id"], none) if is_sound else none for row, is_sound in zip(rows, sound, strict=True)]


def other_teachers(rows: Sequence[Row], sound: Sequence[bool]) -> list[float | None]:
    """Return for each row the share of the prompt's other teachers whose most frequent sound answer is equal to it.

    None where no other teacher has a sound answer.
    """
    votes = _votes(rows, sound)
    most = {prompt_id: {name: majority(counts) for name, counts in by_teacher.items()} for prompt_id, by_teacher in votes.items()}
    others = [[text for name, text in most.get(row["prompt_id"], {}).items() if name != row["teacher"]] for row in rows]
    return [
        sum(text == canonical(row["answer"]) for text in texts) / len(texts) if texts else None
        for row, texts in zip(rows, others, strict=True)
    ]


def _votes(rows: Sequence[Row], sound: Sequence[bool]) -> dict[str, dict[str, Counter[str]]]:
    """Return prompt id -> teacher -> how often it gives each answer, sound ones only.

    Prompts of which only one teacher has such an answer are left out.
    """
    teachers: dict[str, set[str]] = defaultdict(set)
    for row, is_sound in zip(rows, sound, strict=True):
        if is_sound:
            teachers[row["prompt_id"]].add(row["teacher"])
    votes: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row, is_sound in zip(rows, sound, strict=True):
        if is_sound and len(teachers[row["prompt_id"]]) > 1:
            votes[row["prompt_id"]][row["teacher"]][canonical(row["answer"])] += 1
    return votes


def majority(votes: Counter[str]) -> str:
    """Return the most frequent answer; of several the first in the alphabet."""
    return min(votes, key=lambda answer: (-votes[answer], answer))


def merge_answers(graded: Sequence[Row], pools: Pools, check: Callable[[Row], list[CheckResult]]) -> list[Row]:
    """Return CANDIDATE rows, and a merged row for each prompt whose accepted answers complement each other.

    The parents of a merged row go to `contrast`. An answer is merged only if the result passes every check; its confidence is the
    smallest of its parents.
    """
    accepted: dict[str, list[Row]] = defaultdict(list)
    for row in graded:
        if row["pool"] == "train" and row["relation"] == "complementary":
            accepted[row["prompt_id"]].append(row)
    merged = {prompt_id: row for prompt_id, rows in accepted.items() if (row := _merged(rows, pools, check))}
    parents = {row["answer_id"] for prompt_id in merged for row in accepted[prompt_id]}
    moved = {"pool": "contrast", "reasons": ["completed"]}
    return [*(row | moved if row["answer_id"] in parents else row for row in graded), *merged.values()]


def _merged(rows: Sequence[Row], pools: Pools, check: Callable[[Row], list[CheckResult]]) -> Row | None:
    best: dict[str, Row] = {}
    for row in sorted(rows, key=most_trusted_first):
        best.setdefault(row["teacher"], row)
    parents = list(best.values())
    if len(parents) < 2 or relate([row["answer"] for row in parents], pools.relations).relation != "complementary":
        return None  # a teacher's most trusted sample may differ from its majority
    confidences, tiers = ([row[name] for row in parents] for name in ("confidence", "confidence_tier"))
    merged = parents[0] | {
        "answer_id": content_id("merged", *sorted(row["answer_id"] for row in parents)),
        "answer": merge([row["answer"] for row in parents], pools.relations),
        "parents": [row["answer_id"] for row in parents],
        **{"teacher": "", "sample": 0, "seed": None, "reasoning": "", "trajectory": [], "logprob": None},
        "token_logprobs": None,
        **{"tokens_in": 0, "tokens_out": 0, "seconds": 0.0, "agreement": None},
        "confidence": None if None in confidences else min(confidences),
        **{"judge": "", "score": None, "dimension_scores": [], "rubric_spread": None, "judge_decides": False},
        **{"reasons": ["accepted", "merged"], "confidence_tier": None if None in tiers else max(tiers)},
    }
    merged["checks"] = [outcome._asdict() for outcome in check(merged)]
    return merged if all(outcome["passed"] for outcome in merged["checks"]) else None


class RelationCounts(NamedTuple):
    """Counts over the candidates of a run."""

    relations: dict[str, int]  # relation -> prompts
    confidence_tiers: dict[str, int]  # tier -> answers
    merged: int  # merged answers


def count_relations(pieces: Iterable[pa.Table]) -> RelationCounts:
    """Return the counts over `pieces` with COLUMNS; all answers to a prompt are in one piece."""
    relations: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    merged = 0
    for piece in pieces:
        related = piece.filter(pc.not_equal(pc.fill_null(piece["relation"], ""), ""))
        relations.update(related.group_by(["prompt_id", "relation"]).aggregate([])["relation"].to_pylist())
        tiers.update(str(value) for value in piece["confidence_tier"].drop_null().to_pylist())
        merged += pc.sum(pc.greater(pc.list_value_length(piece["parents"]), 0)).as_py() or 0
    return RelationCounts(dict(sorted(relations.items())), dict(sorted(tiers.items())), merged)
