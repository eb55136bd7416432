"""Pools with their reasons, and the data derived from answers other than the best ones."""

from typing import NamedTuple

from engine.records.base import Json
from engine.report.page_data import Counts, PageData
from engine.rows import POOLS

TOP_REASONS = 8  # per pool


class PoolRow(NamedTuple):
    """One pool."""

    pool: str
    answers: int
    reasons: list[tuple[str, int]]  # most frequent reasons with their answers


class DerivedData(NamedTuple):
    """Metrics of the jobs candidates and dataset; None where a job does not record one."""

    relations: Json | None = None  # relation of several teachers' answers -> prompts
    confidence_tiers: Json | None = None  # confidence tier -> answers
    merged: int | None = None  # answers merged from complementary ones
    kinds: Json | None = None  # kind of example -> examples
    labels: Json | None = None  # label by a person -> answers
    preferences: Json | None = None  # preference pairs: pairs, reasons, margin, length_ratio


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


def derived_data(data: PageData) -> DerivedData:
    """Return what the jobs record about derived data."""
    candidates, dataset = data.metrics("candidates"), data.metrics("dataset")
    preferences = dataset.get("preferences")
    if preferences:
        preferences = {"margin": None, "length_ratio": None} | preferences
    return DerivedData(
        **{name: candidates.get(name) for name in ("relations", "confidence_tiers", "merged")},
        **{name: dataset.get(name) for name in ("kinds", "labels")},
        preferences=preferences,
    )
