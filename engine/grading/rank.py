"""Competition: of the accepted answers to a prompt the best one stays; what it beats is material for pairs."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from engine.checks import canonical

Row = Mapping[str, Any]
EVEN = 0.1  # of a win, that every answer has over every other before anything is asked: no strength is without end
ROUNDED = 6  # digits of a strength: of equal answers none wins by the last digit of a sum


def rivals(rows: Iterable[Row], *, most: int, is_gated: bool) -> dict[str, list[Row]]:
    """Return prompt -> its different accepted answers, the favourite of the pointwise marks first; only where there are two.

    Answers that say the same stand there once. `is_gated`: whether the confidence may decide who is a favourite.
    """
    found = {}
    for prompt, accepted in _accepted(rows).items():
        different: dict[str, Row] = {}
        for row in sorted(accepted, key=lambda row: _rank(row, is_gated=is_gated)):
            different.setdefault(canonical(row["answer"]), row)
        if len(different) > 1:
            found[prompt] = list(different.values())[:most]
    return found


def strengths(count: int, won: Mapping[tuple[int, int], Sequence[float] | None]) -> list[float]:
    """Return how strong each of `count` answers is; the sum is 1.

    `won` holds, for (first, second), the probabilities that the first is better, that the second is, and that neither is. Both
    orders of a pair count alike, so that a liking for one place cancels; a tie, or what cannot be read, is half a win for each.
    Bradley and Terry (1952), by the spectral method of choix (Maystre and Grossglauser, 2015), started from EVEN wins.
    """
    wins = np.full((count, count), EVEN)
    np.fill_diagonal(wins, 0)
    for first, second in permutations(range(count), 2):
        better, worse, even = won.get((first, second)) or (0.0, 0.0, 1.0)
        wins[first, second] += better + even / 2
        wins[second, first] += worse + even / 2
    if count == 2:
        return [round(float(wins[index].sum() / wins.sum()), ROUNDED) for index in (0, 1)]
    import choix  # a second of import, and most prompts have two answers

    found = np.exp(choix.ilsr_pairwise_dense(wins))
    return [round(float(one), ROUNDED) for one in found / found.sum()]


def outranked(rows: Iterable[Row], strength: Mapping[str, float] | None = None, *, is_gated: bool = True) -> set[str]:
    """Return the ids of accepted answers that lose to another accepted one; `rows` are CANDIDATE rows, every prompt whole.

    The strongest wins (`strength` is by answer id; without it, or where it has none, all are alike), then the most confident one if
    the confidence may decide, the one that its teacher's samples agree with most, the shorter, the smaller id. Whoever says the
    same as the winner ties with it.
    """
    known = strength or {}
    lost = set()
    for accepted in _accepted(rows).values():
        best = canonical(min(accepted, key=_by(known, is_gated=is_gated))["answer"])
        lost |= {row["answer_id"] for row in accepted if canonical(row["answer"]) != best}
    return lost


def _accepted(rows: Iterable[Row]) -> dict[str, list[Row]]:
    accepted: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if "accepted" in row["reasons"]:
            accepted[row["prompt_id"]].append(row)
    return accepted


def _by(strength: Mapping[str, float], *, is_gated: bool) -> Callable[[Row], tuple[float | int | str, ...]]:
    return lambda row: (-strength.get(row["answer_id"], 0.0), *_rank(row, is_gated=is_gated))


def _rank(row: Row, *, is_gated: bool) -> tuple[float, float, int, str]:
    trust = row["confidence"] if is_gated else None
    return -(trust or 0.0), -(row["agreement"] or 0.0), len(row["answer"]), row["answer_id"]
