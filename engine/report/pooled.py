"""Pools with their reasons, and what was learnt of answers besides the best ones."""

from collections.abc import Iterable, Mapping
from typing import Any

from engine.report.facts import Counts
from engine.rows import POOLS

SHOWN = 8  # reasons of a pool


def table(counts: Counts) -> dict[str, Any]:
    """Return `rows` (pool, answers, its most frequent reasons with their answers), and `total` answers over all pools."""
    found: dict[str, int] = {}
    for (pool, _), rows in counts.fates.items():
        found[pool] = found.get(pool, 0) + rows
    rows = [(pool, found[pool], _reasons(counts, pool)) for pool in (*POOLS, *sorted(set(found) - {*POOLS})) if pool in found]
    return {"rows": rows, "total": sum(found.values())}


def _reasons(counts: Counts, pool: str) -> list[tuple[str, int]]:
    mine = [(reason, rows) for (where, reason), rows in counts.reasons.items() if where == pool]
    return sorted(mine, key=lambda pair: (-pair[1], pair[0]))[:SHOWN]


def lessons(jobs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `relations`, `confidence_tiers`, `merged`, `kinds`, `preferences` and `labels`, as the jobs say; None what none says."""
    said = {job["job"]: job.get("metrics") or {} for job in jobs}
    of_answers, of_dataset = said.get("candidates", {}), said.get("dataset", {})
    pairs = of_dataset.get("preferences")
    return {
        **{name: of_answers.get(name) for name in ("relations", "confidence_tiers", "merged")},
        **{name: of_dataset.get(name) for name in ("kinds", "labels")},
        "preferences": {"margin": None, "length_ratio": None} | pairs if pairs else None,
    }
