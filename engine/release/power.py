"""What a holdout can prove, before anything is answered: the smallest difference it shows, and the prompts a requirement needs.

The arithmetic is that of `engine/stats/power.py`, with the clusters of this holdout. How strongly errors cluster, and how often two
models differ, is taken from an earlier report where there is one, else from assumptions that the result names.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from engine.contract.gate import Gate
from engine.records.gate import AT_MOST, BEATS, CHAMPION, TWIN, RequirementTest
from engine.records.plan import RequirementPower
from engine.stats import score
from engine.stats.clusters import PRIOR_ICC, Clusters
from engine.stats.power import Risks, detectable, detectable_share, needed, share_spread

TEACHER = 0.8
"""Exact match of the teacher that is assumed where it was not measured."""
RESCUED = 0.2
"""Share of the teacher's wrong answers that a student is assumed to get right."""
DIFFERING = 0.2
"""Share of prompts on which two other models are assumed to differ in being right."""
RETENTION = ("retention", "retention_unseen")
SHARES = ("exact_match", "schema_validity", "abstain_precision", "abstain_recall")
SIZES = ("parameters", "weight_bytes")


class Holdout(NamedTuple):
    """The clusters that a requirement is measured on."""

    every: Clusters
    unseen: Clusters
    """Of the prompts whose scenario never occurs in training."""
    nulls: Clusters
    """Of the fields that the references leave null."""


class Known(NamedTuple):
    """What an earlier report measured."""

    tests: Mapping[str, RequirementTest] = {}
    """Requirement -> its test on the best student."""
    teacher: float | None = None
    """Exact match of the teacher."""
    source: str = ""
    """Where the report lies."""


class _Spreads(NamedTuple):
    null: float  # at the threshold
    true: float  # at the true value
    basis: str


def requirement_power(
    gate: Gate, thresholds: Mapping[str, float], holdout: Holdout, known: Known = Known()  # noqa: B008 - immutable
) -> list[RequirementPower]:  # fmt: skip
    """Return what `holdout` can prove of each requirement, in the order of `thresholds`."""
    return [_of(name, threshold, gate, holdout, known) for name, threshold in thresholds.items()]


def _of(name: str, threshold: float, gate: Gate, holdout: Holdout, known: Known) -> RequirementPower:
    spreads = _spreads(name, threshold, gate, known)
    if spreads is None:
        return RequirementPower(requirement=name, wanted=threshold, at_most=name in AT_MOST, basis=_unknown(name))
    clusters = holdout.unseen if name == "retention_unseen" else holdout.nulls if name.startswith("abstain_") else holdout.every
    icc, why = _icc(name, known)
    design = 1 + (clusters.mean_size - 1) * icc
    independent, risks = clusters.rows / design, Risks(gate.level, gate.power)
    true = _true(name, threshold, gate)
    wanted = needed(abs(true - threshold), spreads.null, spreads.true, risks)
    if name in SHARES:
        shown = detectable_share(independent, threshold, risks)
    else:
        distance = detectable(independent, spreads.null, spreads.true, risks)
        shown = threshold - distance if name in AT_MOST else threshold + distance
    return RequirementPower(
        requirement=name, wanted=threshold, at_most=name in AT_MOST, rows=clusters.rows, clusters=clusters.count,
        design_effect=round(design, 3), detectable=None if shown is None else round(shown, 4), true=round(true, 6), needed=wanted,
        needed_rows=None if wanted is None else math.ceil(round(wanted * design, 6)),
        is_enough=wanted is not None and wanted <= independent, basis=f"{spreads.basis}; {why}",
    )  # fmt: skip


def _true(name: str, threshold: float, gate: Gate) -> float:
    """Return the true value that should be told from the threshold."""
    if name in AT_MOST:
        return max(0.0, threshold - gate.detect)
    return min(1.0, threshold + gate.detect) if name in SHARES else threshold + gate.detect


def _icc(name: str, known: Known) -> tuple[float, str]:
    test = known.tests.get(name)
    if test and test.icc is not None:
        return test.icc, f"intra-cluster correlation {test.icc:.2f}, measured in {known.source}"
    return PRIOR_ICC, f"intra-cluster correlation {PRIOR_ICC:g}, assumed"


def _spreads(name: str, threshold: float, gate: Gate, known: Known) -> _Spreads | None:
    """Return how much one independent prompt tells; None where that cannot be known before a report."""
    if name in SHARES:
        return _Spreads(share_spread(threshold), share_spread(_true(name, threshold, gate)), "by the share itself")
    test = known.tests.get(name)
    if test and test.spread is not None and test.null_spread is not None and name not in ("p95_ms", *SIZES):
        return _Spreads(test.null_spread, test.spread, f"how much a prompt tells: measured in {known.source}")
    if name in RETENTION:
        return _assumed_ratio(threshold, threshold + gate.detect, known)
    if name == CHAMPION or name.startswith((BEATS, TWIN)):
        true = threshold + gate.detect
        basis = f"assumed: the models differ on {100 * DIFFERING:g} % of the prompts"
        return _Spreads(math.sqrt(DIFFERING), math.sqrt(max(0.0, DIFFERING - true**2)), basis)
    return None


def _assumed_ratio(threshold: float, true: float, known: Known) -> _Spreads:
    teacher = known.teacher or TEACHER
    mine = min(RESCUED * (1 - teacher), true * teacher)
    both = min(true * teacher - mine, teacher)
    pairs = score.Pairs(np.array(mine), np.array(teacher - both), np.array(both), 1)
    null = math.sqrt(float(score.ratio_variance(pairs, threshold)))
    second = mine + (teacher - both) * threshold**2 + both * (1 - threshold) ** 2
    mean = mine + both - threshold * teacher
    source = f"measured in {known.source}" if known.teacher else "assumed"
    basis = f"teacher's exact match {teacher:.2f}, {source}; assumed: students get {100 * RESCUED:g} % of its errors right"
    return _Spreads(null / teacher, math.sqrt(max(0.0, second - mean**2)) / teacher, basis)


def _unknown(name: str) -> str:
    if name in SIZES:
        return "counted, not measured"
    if name == "p95_ms":
        return "timed, not asked: 59 timed prompts and more are tested by order statistics, fewer by a log-normal bound"
    if name == "slices":
        return "a search for harm: how much harm it finds depends on the size of each slice"
    return "only a report can tell how much it varies"
