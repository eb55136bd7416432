"""Preference pairs: a chosen and a rejected answer to one prompt, with reason, margin and length ratio.

The rows have the form that trainers of preference objectives read: `prompt`, `chosen` and `rejected` as conversations, the
explicit-prompt form of TRL's dataset formats. The ratio of lengths is limited, because preference training learns length first:
Singhal et al., "A long way to go: investigating length correlations in RLHF" (2023); Park et al., "Disentangling length from
quality in direct preference optimization" (2024). Trajectories with tools are left out:
their answers follow different turns.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import chain

import pyarrow as pa

from engine.contract.curation import Curation
from engine.contract.derived import Preferences
from engine.contract.specialist import Specialist, TaskUnit
from engine.curation.prompt_answers import PromptAnswers, by_prompt
from engine.curation.represent import represent, split, target
from engine.inference.engine import instruct
from engine.records.dataset import PreferenceSummary
from engine.rows import PREFERENCE, Row, content_id

LESS_SURE = "less_sure"
SUMMARY_COLUMNS = ["reason", "margin", "length_ratio"]
BY_CONFIDENCE = (LESS_SURE, "outranked", "samples_disagree")
"""Reasons from a judge or from samples, which need a margin; those from a check, a rule or a person need none."""


def pairs(rows: pa.Table, specialist: Specialist, section: Curation) -> pa.Table:
    """Return PREFERENCE, in the order of pair_id, of rows with prompt_answers.COLUMNS and every prompt whole."""
    settings = section.preferences
    if settings is None:
        return PREFERENCE.empty_table()
    result = []
    for prompt in by_prompt(rows, section):
        unit = specialist.unit(prompt.accepted[0]["task_unit"]) if prompt.accepted else None
        if unit and unit.supervise != "tools":
            result += _of_prompt(prompt, unit, settings, section)
    return pa.Table.from_pylist(result, schema=PREFERENCE).sort_by("pair_id")


def _of_prompt(prompt: PromptAnswers, unit: TaskUnit, settings: Preferences, section: Curation) -> list[Row]:
    chosen = prompt.accepted[0]
    better = target(represent(chosen["answer"], unit), unit)
    possible: dict[str, Row] = {}
    for row, reason in _worse(prompt, settings) if better else ():
        worse, margin = target(represent(row["answer"], unit), unit), _margin(chosen, row)
        ratio = len(better) / max(len(worse), 1)
        is_clear = reason not in BY_CONFIDENCE or margin >= settings.margin
        if worse and worse != better and is_clear and max(ratio, 1 / ratio) <= settings.length_ratio:
            pair = {"rejected_id": row["answer_id"], "margin": margin, "reason": reason, "length_ratio": ratio}
            possible.setdefault(worse, pair | {"rejected": [{"role": "assistant", "content": worse}]})
    common = {
        **{name: chosen[name] for name in ("prompt_id", "task_unit", "difficulty")},
        "prompt": instruct(chosen["messages"], system=unit.instruction),
        "chosen": [{"role": "assistant", "content": better}],
        "chosen_id": chosen["answer_id"],
        "split": split(chosen["prompt_id"], share=section.pick.validation, seed=section.seed),
    }
    best = sorted(possible.values(), key=lambda pair: _order(pair, settings))[: settings.max_per_prompt]
    return [{"pair_id": content_id(chosen["answer_id"], pair["rejected_id"]), **common, **pair} for pair in best]


def _worse(prompt: PromptAnswers, settings: Preferences) -> list[tuple[Row, str]]:
    """Return the answers that can be rejected, with the reason; truncated answers cannot."""
    failed = [
        (row, row["reasons"][0]) for row in prompt.failed if row["pool"] in settings.rejected and row["finish_reason"] == "stop"
    ]
    return [*failed, *((row, LESS_SURE) for row in (*prompt.accepted[1:], *prompt.second))]


def _margin(chosen: Row, rejected: Row) -> float:
    """Return the difference of confidences; without a judge it is 1 for an accepted answer and 0 for any other."""
    high = 1.0 if chosen["confidence"] is None else chosen["confidence"]
    is_accepted = "accepted" in rejected["reasons"]
    low = float(is_accepted) if rejected["confidence"] is None else rejected["confidence"]
    return high - low


def _order(pair: Row, settings: Preferences) -> tuple[float, float, str]:
    ratio = max(pair["length_ratio"], 1 / pair["length_ratio"])
    first = (-pair["margin"], ratio) if settings.prefer == "margin" else (ratio, -pair["margin"])
    return *first, pair["rejected_id"]


def summary(pieces: Iterable[pa.Table]) -> PreferenceSummary:
    """Return the summary of PREFERENCE rows, which need SUMMARY_COLUMNS only."""
    reasons: Counter[str] = Counter()
    margin = ratio = 0.0
    for row in chain.from_iterable(piece.select(SUMMARY_COLUMNS).to_pylist() for piece in pieces):
        reasons[row["reason"]] += 1
        margin, ratio = margin + row["margin"], ratio + row["length_ratio"]
    count = reasons.total()
    means = {"margin": round(margin / count, 4), "length_ratio": round(ratio / count, 4)} if count else {}
    return PreferenceSummary(pairs=count, reasons=dict(sorted(reasons.items())), **means)
