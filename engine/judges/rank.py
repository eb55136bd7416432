"""Competition: of the accepted answers to a prompt the best one stays; what it beats is material for pairs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from engine.checks import canonical


def outranked(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the ids of accepted answers that lose to another accepted one; `rows` are CANDIDATE rows, every prompt whole.

    The most confident one wins, then the one that its teacher's samples agree with most, the shorter, the smaller id. Whoever says
    the same as the winner ties with it.
    """
    accepted: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if "accepted" in row["reasons"]:
            accepted[row["prompt_id"]].append(row)
    lost = set()
    for rivals in accepted.values():
        best = canonical(min(rivals, key=_rank)["answer"])
        lost |= {row["answer_id"] for row in rivals if canonical(row["answer"]) != best}
    return lost


def _rank(row: Mapping[str, Any]) -> tuple[float, float, int, str]:
    return -row["confidence"], -row["agreement"], len(row["answer"]), row["answer_id"]
