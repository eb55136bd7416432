"""Counters of rows and tokens for Prometheus, in Ray's own metrics: every node's `/metrics` has them beside Ray's."""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

ROWS = "rayleigh_rows"
TOKENS = "rayleigh_output_tokens"


def count(table: str, labels: Mapping[str, int], tokens: int) -> None:
    """Count rows that were written to a table, by their label, and the tokens of their answers; nothing outside of a Ray worker.

    Args:
        table: name of the table.
        labels: value of the label, such as the pool, -> rows; "" if the table has none.
        tokens: tokens of the answers.
    """
    ray = sys.modules.get("ray")  # a process that has not imported it is no worker
    if ray is None or not ray.is_initialized():
        return
    rows, answered = _counters()
    for label, number in labels.items():
        rows.inc(number, tags={"table": table, "label": label})
    if tokens:
        answered.inc(tokens, tags={"table": table})


@cache
def _counters() -> tuple[Any, Any]:
    from ray.util.metrics import Counter

    rows = Counter(ROWS, description="Rows that were written, by table and label.", tag_keys=("table", "label"))
    return rows, Counter(TOKENS, description="Tokens of the answers that were written, by table.", tag_keys=("table",))
