"""Pairs of a chosen and a rejected answer to one prompt: what is worse, by how much, why, and of what length.

The rows are what trainers of preference objectives read: `prompt`, `chosen` and `rejected` as conversations, the explicit-prompt
form of TRL's dataset formats. Length is held in check since preference training learns it first: Singhal et al., "A long way to
go: investigating length correlations in RLHF" (2023); Park et al., "Disentangling length from quality in direct preference
optimization" (2024). Trajectories with tools are left out: their answers follow different turns.
"""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from engine.contract.curation import Curation
from engine.contract.derived import Preferences
from engine.contract.specialist import Specialist, TaskUnit
from engine.curation.dispositions import Asked, Row, asked
from engine.curation.represent import represent, split, target
from engine.inference.engine import instruct
from engine.rows import PREFERENCE, content_id

LESS_SURE = "less_sure"
TOLD = ["reason", "margin", "length_ratio"]
BY_CONFIDENCE = (LESS_SURE, "outranked", "samples_disagree")
"""Reasons that rest on a judge or on samples, not on a check, a rule or a person: only these need a margin."""


def pairs(rows: pa.Table, specialist: Specialist, section: Curation) -> pa.Table:
    """fates.COLUMNS, every prompt whole, in; PREFERENCE out, in the order of pair_id."""
    wanted = section.preferences
    if wanted is None:
        return PREFERENCE.empty_table()
    found = []
    for prompt in asked(rows, section):
        unit = specialist.unit(prompt.accepted[0]["task_unit"]) if prompt.accepted else None
        if unit and unit.supervise != "tools":
            found += _of_prompt(prompt, unit, wanted, section)
    return pa.Table.from_pylist(found, schema=PREFERENCE).sort_by("pair_id")


def _of_prompt(prompt: Asked, unit: TaskUnit, wanted: Preferences, section: Curation) -> list[dict[str, Any]]:
    chosen = prompt.accepted[0]
    better = target(represent(chosen["answer"], unit), unit)
    possible: dict[str, dict[str, Any]] = {}
    for row, reason in _worse(prompt, wanted) if better else ():
        worse, margin = target(represent(row["answer"], unit), unit), _margin(chosen, row)
        ratio = len(better) / max(len(worse), 1)
        is_clear = reason not in BY_CONFIDENCE or margin >= wanted.margin
        if worse and worse != better and is_clear and max(ratio, 1 / ratio) <= wanted.length_ratio:
            pair = {"rejected_id": row["answer_id"], "margin": margin, "reason": reason, "length_ratio": ratio}
            possible.setdefault(worse, pair | {"rejected": [{"role": "assistant", "content": worse}]})
    common = {
        **{name: chosen[name] for name in ("prompt_id", "task_unit", "difficulty")},
        "prompt": instruct(chosen["messages"], system=unit.instruction),
        "chosen": [{"role": "assistant", "content": better}],
        "chosen_id": chosen["answer_id"],
        "split": split(chosen["prompt_id"], share=section.pick.validation, seed=section.seed),
    }
    best = sorted(possible.values(), key=lambda pair: _order(pair, wanted))[: wanted.most]
    return [{"pair_id": content_id(chosen["answer_id"], pair["rejected_id"]), **common, **pair} for pair in best]


def _worse(prompt: Asked, wanted: Preferences) -> list[tuple[Row, str]]:
    """Answers that could be rejected, with the reason. One that did not end is no answer."""
    failed = [
        (row, row["reasons"][0]) for row in prompt.failed if row["pool"] in wanted.rejected and row["finish_reason"] == "stop"
    ]
    return [*failed, *((row, LESS_SURE) for row in (*prompt.accepted[1:], *prompt.second))]


def _margin(chosen: Row, rejected: Row) -> float:
    """Difference of confidences. What no judge has seen counts as sure if it was accepted, and as nothing if it was not."""
    high = 1.0 if chosen["confidence"] is None else chosen["confidence"]
    is_accepted = "accepted" in rejected["reasons"]
    low = float(is_accepted) if rejected["confidence"] is None else rejected["confidence"]
    return high - low


def _order(pair: dict[str, Any], wanted: Preferences) -> tuple[float, float, str]:
    apart = max(pair["length_ratio"], 1 / pair["length_ratio"])
    first = (-pair["margin"], apart) if wanted.prefer == "margin" else (apart, -pair["margin"])
    return *first, pair["rejected_id"]


def told(pieces: Iterable[pa.Table]) -> dict[str, Any]:
    """Return what the report says of PREFERENCE rows: `pairs`, by `reasons`, mean `margin` and mean `length_ratio`."""
    reasons: dict[str, int] = {}
    margin = ratio = 0.0
    for piece in pieces:
        for row in piece.select(TOLD).to_pylist():
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
            margin, ratio = margin + row["margin"], ratio + row["length_ratio"]
    count = sum(reasons.values())
    means = {"margin": round(margin / count, 4), "length_ratio": round(ratio / count, 4)} if count else {}
    return {"pairs": count, "reasons": dict(sorted(reasons.items())), **means}
