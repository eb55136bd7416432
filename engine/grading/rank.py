"""Competition: of the accepted answers to a prompt only the best stays accepted; the others serve as rejected halves of pairs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np

from engine.checks import canonical
from engine.rows import Row

PRIOR_WINS = 0.1  # wins of every answer over every other before any comparison: keeps all strengths finite
DIGITS = 6  # of a strength: equal answers must not be ordered by the last digit of a sum


def competitors(rows: Iterable[Row], *, max_answers: int, judge_decides: bool) -> dict[str, list[Row]]:
    """Return prompt id -> its different accepted answers, best first by confidence; only prompts with at least two.

    Equal answers are represented by one. `judge_decides`: whether the confidence counts in the order.
    """
    result = {}
    for prompt_id, accepted in _accepted(rows).items():
        different: dict[str, Row] = {}
        for row in sorted(accepted, key=lambda row: most_trusted_first(row, judge_decides=judge_decides)):
            different.setdefault(canonical(row["answer"]), row)
        if len(different) > 1:
            result[prompt_id] = list(different.values())[:max_answers]
    return result


def strengths(count: int, comparisons: Mapping[tuple[int, int], Sequence[float] | None]) -> list[float]:
    """Return the strength of each of `count` answers; the sum is 1.

    `comparisons` holds, for (first, second), the probabilities that the first is better, that the second is, and that neither is.
    Both orders of a pair count alike, so that a position bias cancels; a tie or an unreadable reply is half a win for each.
    Bradley and Terry (1952), by the spectral method of choix (Maystre and Grossglauser, 2015), started from PRIOR_WINS.
    """
    wins = np.full((count, count), PRIOR_WINS)
    np.fill_diagonal(wins, 0)
    for first, second in permutations(range(count), 2):
        better, worse, tie = comparisons.get((first, second)) or (0.0, 0.0, 1.0)
        wins[first, second] += better + tie / 2
        wins[second, first] += worse + tie / 2
    if count == 2:
        return [round(float(wins[index].sum() / wins.sum()), DIGITS) for index in (0, 1)]
    import choix  # a second of import, and most prompts have two answers

    values = np.exp(choix.ilsr_pairwise_dense(wins))
    return [round(float(value), DIGITS) for value in values / values.sum()]


def outranked(rows: Iterable[Row], strength: Mapping[str, float] | None = None, *, judge_decides: bool = True) -> set[str]:
    """Return the ids of accepted answers that lose to another accepted one; `rows` are CANDIDATE rows of whole prompts.

    The strongest answer wins (`strength`: answer id -> strength, 0 if missing). Ties are broken by the confidence if the judge
    decides, then by agreement, length (shorter first) and id. An answer equal to the winner does not lose.
    """

    def order(row: Row) -> tuple[float | int | str, ...]:
        return -(strength or {}).get(row["answer_id"], 0.0), *most_trusted_first(row, judge_decides=judge_decides)

    losers = set()
    for accepted in _accepted(rows).values():
        best = canonical(min(accepted, key=order)["answer"])
        losers |= {row["answer_id"] for row in accepted if canonical(row["answer"]) != best}
    return losers


def _accepted(rows: Iterable[Row]) -> dict[str, list[Row]]:
    accepted: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if "accepted" in row["reasons"]:
            accepted[row["prompt_id"]].append(row)
    return accepted


def most_trusted_first(row: Row, *, judge_decides: bool = True) -> tuple[float, float, int, str]:
    """Return the key by which answers are sorted: confidence if `judge_decides`, agreement, length (shorter first) and id."""
    confidence = row["confidence"] if judge_decides else None
    return -(confidence or 0.0), -(row["agreement"] or 0.0), len(row["answer"]), row["answer_id"]
