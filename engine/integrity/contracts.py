"""Rules between columns, tables and records: what one column cannot say."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from engine.integrity.rules import Condition
from engine.rows import PROMPT_DROPS, REJECTED

TOKENISED = "examples_*"
"""Tables of the job `tokens`, one for each tokenizer."""


class Reference(NamedTuple):
    """Values of a column that must be in one of other columns."""

    table: str
    """`job/table`."""
    column: str
    to: tuple[str, ...]
    """`job/table/column`, of which one must hold the value; tables that a run lacks are left out."""
    value: str = ""
    """SQL of the value, if it is not the column itself."""
    where: str = "true"
    """SQL of the rows that must refer."""


class LabelCount(NamedTuple):
    """Rows per value of a column that must be those of the record."""

    table: str
    column: str
    names: Mapping[str, str] = MappingProxyType({})
    """Value -> label of the record, where they differ."""


def _row(column: str, sql: str, expected: str, shown: str = "") -> Condition:
    return Condition(column, "row", sql, expected, shown or f'"{column}"')


ANSWER_OF_EXAMPLE = "split_part(example_id, '-', 1)"
ROWS: dict[str, tuple[Condition, ...]] = {
    "holdout": (_row("reference", "reference is null", "a reference in every row of the holdout"),),
    "picked": (
        _row("duplicate_of", "dropped_by = '' and duplicate_of <> ''", "no duplicate_of in a row that is kept"),
        _row(
            "duplicate_of",
            "dropped_by in ('exact', 'minhash', 'semantic', 'contaminated') and duplicate_of = ''",
            "what a dropped duplicate lost to",
            "dropped_by",
        ),
    ),
    "preferences": (_row("rejected_id", "chosen_id = rejected_id", "two answers"),),
    TOKENISED: (
        _row("target_start", "target_start >= len(ids)", "an index into ids", "target_start || ' of ' || len(ids)"),
        _row("spans", 'spans[1].start <> target_start or spans[len(spans)]."end" <> len(ids)', "spans that cover the target"),
    ),
}
"""Name of a table -> conditions that are true where columns of one row contradict each other."""

PROMPTS = ("prompts/prompts/prompt_id",)
ANSWERS = ("candidates/candidates/answer_id", "dataset/picked/answer_id")  # corrections of people are only among the picked
REFERENCES = (
    Reference("prompts/prompts", "parent_id", (*PROMPTS, "prompts/dropped/prompt_id"), where="parent_id is not null"),
    Reference("prompts/dropped", "duplicate_of", (*PROMPTS, "prompts/holdout/prompt_id", "prompts/dropped/prompt_id")),
    Reference("candidates/candidates", "prompt_id", PROMPTS),
    Reference("candidates/candidates", "answer_id", ("dataset/picked/answer_id",)),
    Reference("dataset/picked", "prompt_id", PROMPTS),
    Reference("dataset/picked", "answer_id", ("candidates/candidates/answer_id",), where="len(parents) = 0"),
    Reference("dataset/picked", "duplicate_of", ANSWERS, where="duplicate_of <> '' and dropped_by <> 'contaminated'"),
    Reference("dataset/embeddings", "prompt_id", PROMPTS),
    Reference("dataset/examples", "prompt_id", PROMPTS),
    Reference("dataset/examples", "example_id", ("dataset/picked/answer_id",), ANSWER_OF_EXAMPLE),
    Reference("dataset/preferences", "prompt_id", PROMPTS),
    Reference("dataset/preferences", "chosen_id", ("dataset/picked/answer_id",)),
    Reference("dataset/preferences", "rejected_id", ("dataset/picked/answer_id",)),
    Reference(f"tokens/{TOKENISED}", "example_id", ("dataset/examples/example_id",)),
    Reference("dataset/examples", "example_id", (f"tokens/{TOKENISED}/example_id",)),
    Reference("capture/captured", "example_id", ("dataset/examples/example_id",)),
    Reference("reports/predictions", "prompt_id", ("prompts/holdout/prompt_id",)),
)
DISJOINT = (("prompts/prompts", "prompts/holdout", "prompt_id"),)
"""Pairs of tables that share no value of a column: nothing that is learned is measured with."""

COUNTS = (
    LabelCount("prompts/rejects", "reason"),
    LabelCount("prompts/dropped", "dropped_by"),
    LabelCount("candidates/candidates", "pool"),
    LabelCount("dataset/picked", "dropped_by", {"": "picked"}),
    LabelCount("reports/predictions", "finish_reason"),
)
TOTALS = (
    ("prompts/prompts", "prompts", ("prompts",)),
    ("prompts/holdout", "prompts", ("holdout",)),
    ("prompts/rejects", "prompts", REJECTED),
    ("prompts/dropped", "prompts", PROMPT_DROPS),
    ("dataset/examples", "tokens", ()),
    ("dataset/picked", "dataset", ()),
)
"""Table, job, labels: its rows are the sum of the labels in the job's record; without labels they are the rows that it took in."""
