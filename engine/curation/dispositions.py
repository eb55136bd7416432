"""What may be learnt of a prompt's failed answers: nothing of one that is a copy, or resembles what must stay unknown."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation.contamination import by_words
from engine.curation.decontaminate import Index

COLUMNS = [
    "answer_id", "prompt_id", "task_unit", "messages", "text", "layer", "difficulty", "answer", "finish_reason", "checks", "agreement",
    "confidence", "pool", "reasons", "confidence_tier", "cluster", "dropped_by", "reference", "scenario", "language",
]  # fmt: skip
STAYS = ("", "quota")  # of a prompt that only found no place no other prompt is a copy

Row = dict[str, Any]


class Asked(NamedTuple):
    """One prompt and what may be used of its answers, the best first."""

    accepted: list[Row]
    """Answers that are learnt, or would be had their prompt a place; empty if none was accepted."""
    second: list[Row]
    """Accepted answers beside a better one."""
    failed: list[Row]
    """Answers in pools that are not learnt."""


def clean(rows: pa.Table, index: Index, section: Curation) -> pa.Table:
    """PICKED in, COLUMNS of it out, without answers that resemble, by words, what must stay unknown."""
    leaks = by_words(rows, index, section.decontaminate)
    return rows.filter(pc.invert(leaks["is_out"])).select(COLUMNS)


def clean_targets(made: pa.Table, index: Index, section: Curation) -> pa.Table:
    """EXAMPLE in and out, without those whose target resembles, by words, what must stay unknown; their prompts are clean."""
    nothing = pa.array([""] * made.num_rows, pa.string())
    shown = pa.table({"answer_id": made["example_id"], "text": nothing, "answer": made["target"]})
    return made.filter(pc.invert(by_words(shown, index, section.decontaminate)["is_out"]))


def asked(rows: pa.Table, section: Curation) -> Iterator[Asked]:
    """Yield what may be used of each prompt of `rows`, COLUMNS with every prompt whole, in the order of prompt_id.

    A prompt whose accepted answer is dropped as a copy or as contaminated is left out. One without an accepted answer was compared
    with what must stay unknown by words only; where the contract wants it compared by meaning too, it is left out.
    """
    prompts: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows.to_pylist(), key=_best_first):
        prompts[row["prompt_id"]].append(row)
    for _, answers in sorted(prompts.items()):
        learnt = [row for row in answers if row["pool"] in section.pick.pools]
        accepted = [row for row in learnt if row["dropped_by"] in STAYS]
        second = [row for row in learnt if row["dropped_by"] == "sample"]
        failed = [row for row in answers if row["pool"] not in section.pick.pools]
        if accepted or (not learnt and not section.decontaminate.similarity):
            yield Asked(accepted, second, failed)


def _best_first(row: Row) -> tuple[float, float, int, str]:
    known = [-1.0 if row[name] is None else row[name] for name in ("confidence", "agreement")]
    return -known[0], -known[1], len(row["answer"] or ""), row["answer_id"]
