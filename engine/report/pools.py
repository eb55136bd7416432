"""Pools with their reasons."""

from typing import NamedTuple

from engine.report.page_data import Counts
from engine.rows import POOLS

TOP_REASONS = 8  # per pool


class PoolRow(NamedTuple):
    """One pool."""

    pool: str
    answers: int
    reasons: list[tuple[str, int]]  # most frequent reasons with their answers


def table(counts: Counts) -> list[PoolRow]:
    """Return one row per pool that has answers, in the order of POOLS."""
    answers: dict[str, int] = {}
    for (pool, _), rows in counts.dispositions.items():
        answers[pool] = answers.get(pool, 0) + rows
    order = [pool for pool in (*POOLS, *sorted(set(answers) - {*POOLS})) if pool in answers]
    return [PoolRow(pool, answers[pool], _reasons(counts, pool)) for pool in order]


def _reasons(counts: Counts, pool: str) -> list[tuple[str, int]]:
    reasons = [(reason, rows) for (name, reason), rows in counts.reasons.items() if name == pool]
    return sorted(reasons, key=lambda pair: (-pair[1], pair[0]))[:TOP_REASONS]
