"""Sums over every answer, in one pass over narrow columns, one shard at a time; and the pools with their reasons."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.report.page_data import BINS, Counts, TeacherSums
from engine.rows import POOLS

COLUMNS = ["pool", "reasons", "checks", "finish_reason", "teacher", "tokens_in", "tokens_out", "seconds", "confidence"]
PICK_COLUMNS = ["dropped_by", "cluster"]
TOP_REASONS = 8  # per pool


class PoolRow(NamedTuple):
    """One pool."""

    pool: str
    answers: int
    reasons: list[tuple[str, int]]  # most frequent reasons with their answers


def count_answers(parts: Iterable[pa.Table]) -> Counts:
    """Return the sums over `parts`; answers of a table without `dropped_by` have the disposition "?"."""
    dispositions: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    checks: Counter[tuple[str, bool]] = Counter()
    finish_reasons: Counter[str] = Counter()
    clusters: Counter[tuple[int, bool]] = Counter()
    counts = Counts()
    for part in parts:
        counts.answers += part.num_rows
        dropped_by = part["dropped_by"] if "dropped_by" in part.column_names else pa.array(["?"] * part.num_rows)
        dispositions.update(_pairs(part["pool"], dropped_by))
        finish_reasons.update(part["finish_reason"].to_pylist())
        for pool, tags in zip(part["pool"].to_pylist(), part["reasons"].to_pylist(), strict=True):
            reasons.update((pool, tag) for tag in tags or ())
        outcomes = pc.list_flatten(part["checks"])
        checks.update(_pairs(pc.struct_field(outcomes, "check"), pc.struct_field(outcomes, "passed")))
        if "cluster" in part.column_names:
            clusters.update(_pairs(part["cluster"], pc.equal(part["dropped_by"], "")))
        _add_teachers(counts.teachers, part)
        _add_confidence(counts.confidence, part)
    counts.dispositions, counts.reasons, counts.finish_reasons = dict(dispositions), dict(reasons), dict(finish_reasons)
    counts.checks = {name: (checks[name, True], checks[name, False]) for name in sorted({name for name, _ in checks})}
    counts.clusters = {c: (clusters[c, True], clusters[c, False]) for c in sorted({c for c, _ in clusters}) if c >= 0}
    return counts


def count_values(parts: Iterable[pa.Table], column: str) -> dict[str, int]:
    """Return value -> rows of one column."""
    return dict(Counter(chain.from_iterable(part[column].to_pylist() for part in parts)))


def pool_rows(counts: Counts) -> list[PoolRow]:
    """Return one row per pool that has answers, in the order of POOLS."""
    answers: Counter[str] = Counter()
    for (pool, _), rows in counts.dispositions.items():
        answers[pool] += rows
    order = [pool for pool in (*POOLS, *sorted(answers.keys() - {*POOLS})) if pool in answers]
    reasons = sorted(counts.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return [PoolRow(pool, answers[pool], [(tag, n) for (name, tag), n in reasons if name == pool][:TOP_REASONS]) for pool in order]


def _pairs(left: pa.ChunkedArray | pa.Array, right: pa.ChunkedArray | pa.Array) -> Counter[tuple[Any, Any]]:
    return Counter(zip(left.to_pylist(), right.to_pylist(), strict=True))


def _add_teachers(teachers: dict[str, TeacherSums], part: pa.Table) -> None:
    sums = part.group_by("teacher").aggregate([([], "count_all"), ("tokens_in", "sum"), ("tokens_out", "sum"), ("seconds", "sum")])
    for row in sums.to_pylist():
        added = TeacherSums(row["count_all"], *(row[f"{name}_sum"] or 0 for name in ("tokens_in", "tokens_out", "seconds")))
        teachers[row["teacher"]] = teachers.get(row["teacher"], TeacherSums()).plus(added)


def _add_confidence(confidence: dict[str, list[int]], part: pa.Table) -> None:
    values = part["confidence"].to_numpy(zero_copy_only=False).astype(float)
    pools = part["pool"].to_numpy(zero_copy_only=False)
    for pool in sorted(set(pools)):
        finite = values[(pools == pool) & np.isfinite(values)]
        bins, _ = np.histogram(finite, bins=BINS, range=(0, 1))
        before = confidence.setdefault(pool, [0] * BINS)
        confidence[pool] = [a + int(b) for a, b in zip(before, bins, strict=True)]
