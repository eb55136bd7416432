"""The answers of a prompt from which derived data may be made: preference pairs and contrastive examples.

Nothing is derived from a prompt that was dropped as a duplicate or as contaminated.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation.contamination import by_ngrams
from engine.curation.ngram_index import NgramIndex
from engine.rows import Row

COLUMNS = [
    "answer_id", "prompt_id", "task_unit", "messages", "text", "layer", "difficulty", "answer", "finish_reason", "checks",
    "agreement", "confidence", "pool", "reasons", "confidence_tier", "cluster", "dropped_by", "reference", "scenario", "language",
]  # fmt: skip
STAYS = ("", "quota")  # prompts dropped by a quota have no duplicates among the kept ones


class PromptAnswers(NamedTuple):
    """The usable answers to one prompt, best first."""

    accepted: list[Row]
    """Kept answers, or those of a prompt that only a quota dropped; empty if none was accepted."""
    second: list[Row]
    """Accepted answers that lost to a better one."""
    failed: list[Row]
    """Answers of pools that do not become examples."""


def drop_contaminated(rows: pa.Table, index: NgramIndex, section: Curation) -> pa.Table:
    """Return COLUMNS of PICKED rows, without answers that resemble a protected text by n-grams."""
    is_contaminated = by_ngrams(rows, index, section.decontaminate)["is_contaminated"]
    return rows.filter(pc.invert(is_contaminated)).select(COLUMNS)


def drop_contaminated_targets(examples: pa.Table, index: NgramIndex, section: Curation) -> pa.Table:
    """Return EXAMPLE rows without those whose target resembles a protected text by n-grams; their prompts were compared before."""
    no_prompts = pa.array([""] * examples.num_rows, pa.string())
    targets = pa.table({"answer_id": examples["example_id"], "text": no_prompts, "answer": examples["target"]})
    return examples.filter(pc.invert(by_ngrams(targets, index, section.decontaminate)["is_contaminated"]))


def drop_contaminated_examples(examples: pa.Table, index: NgramIndex, section: Curation) -> pa.Table:
    """Return EXAMPLE rows without those whose turns of the user, or whose target, resemble a protected text by n-grams."""
    texts = ["\n".join(turn["content"] for turn in turns if turn["role"] == "user") for turns in examples["messages"].to_pylist()]
    rows = pa.table({"answer_id": examples["example_id"], "text": pa.array(texts, pa.string()), "answer": examples["target"]})
    return examples.filter(pc.invert(by_ngrams(rows, index, section.decontaminate)["is_contaminated"]))


def by_prompt(rows: pa.Table, section: Curation) -> Iterator[PromptAnswers]:
    """Yield the usable answers of each prompt, in the order of prompt_id; `rows` have COLUMNS and every prompt whole.

    A prompt whose accepted answer was dropped as a duplicate or as contaminated is left out. A prompt without an accepted answer
    was compared with protected texts by n-grams only; if the contract compares by embedding, too, it is left out.
    """
    prompts: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows.to_pylist(), key=_best_first):
        prompts[row["prompt_id"]].append(row)
    for _, answers in sorted(prompts.items()):
        trainable = [row for row in answers if row["pool"] in section.pick.pools]
        accepted = [row for row in trainable if row["dropped_by"] in STAYS]
        second = [row for row in trainable if row["dropped_by"] == "sample"]
        failed = [row for row in answers if row["pool"] not in section.pick.pools]
        if accepted or (not trainable and not section.decontaminate.similarity):
            yield PromptAnswers(accepted, second, failed)


def _best_first(row: Row) -> tuple[float, float, int, str]:
    scores = [-1.0 if row[name] is None else row[name] for name in ("confidence", "agreement")]
    return -scores[0], -scores[1], len(row["answer"] or ""), row["answer_id"]
