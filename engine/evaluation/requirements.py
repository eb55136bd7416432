"""Tests each requirement of the gate on one model's answers to the holdout; `engine/release/gate.py` turns them into words.

a share           Wilson's score test, with the design effect of the clusters
against a model   the score test of a paired ratio or difference; without clusters and margin, McNemar's with mid-p
ECE, cost         a bootstrap that draws clusters
latency           the test of a quantile
a size            compared: it is counted, not measured
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from engine.contract.gate import Gate
from engine.evaluation.cost import Spent
from engine.evaluation.metrics import FN, FP, TP, Grades
from engine.evaluation.result import EvalResult, unseen_rows
from engine.records.gate import BEATS, CHAMPION, SLICES, TWIN, RequirementTest
from engine.stats import calibration, score
from engine.stats.bootstrap import Array, Measure, Resamples, divide
from engine.stats.clusters import Clusters
from engine.stats.multiple import benjamini_hochberg
from engine.stats.power import Risks, further, share_spread
from engine.stats.quantile import quantile

LATENCY_QUANTILE = 0.95
MCNEMAR = "McNemar, mid-p"


class GateContext(NamedTuple):
    """What the gate asks for."""

    gate: Gate = Gate()
    champion: str | None = None
    """Name of the result that is the champion; one that is not among the results could not be evaluated. None = there is none."""
    labels: Sequence[object] | None = None
    """Cluster of each row; None = their scenarios."""


class Scene(NamedTuple):
    """All that the tests of the models of one report have in common."""

    gate: Gate
    clusters: Clusters
    resamples: Resamples
    teacher: EvalResult | None
    others: Mapping[str, EvalResult] = MappingProxyType({})
    """Every evaluated model."""
    champion: str | None = None
    slices: Mapping[str, Array] = MappingProxyType({})
    """Slice, such as `difficulty hard` -> mask (n,)."""

    @property
    def risks(self) -> Risks:
        """Level and power of every test."""
        return Risks(self.gate.level, self.gate.power)


def requirement_tests(result: EvalResult, grades: Grades, requests: Spent | None, scene: Scene) -> dict[str, RequirementTest]:
    """Return requirement -> its test; one that cannot be tested on this model is left out. `requests`: what each request costs."""
    gate = scene.gate
    tests = {
        **_shares(grades, scene),
        **_against_teacher(result, scene),
        "ece": _ece(grades, scene),
        "p95_ms": _latency(result, scene),
        "cost_per_1000_accepted": _cost(requests, scene),
        "parameters": _size(result.evaluated.size.parameters, gate.parameters),
        "weight_bytes": _size(result.evaluated.size.weight_bytes, gate.weight_bytes),
        **{f"{BEATS}{name}": _difference(result, name, scene, threshold=0.0) for name in gate.beats},
    }
    if gate.hurt_by and (twin := gate.hurt_by.twins.get(result.name)):
        tests[f"{TWIN}{twin}"] = _difference(result, twin, scene, threshold=-gate.hurt_by.at_most)
    if gate.champion is not None:
        tests[CHAMPION] = _champion(result, scene) or _difference(result, scene.champion, scene, threshold=-gate.champion)
    if gate.slices:
        tests[SLICES] = _champion(result, scene) or _slices(result, scene)
    return {name: test for name, test in tests.items() if test}


def _shares(grades: Grades, scene: Scene) -> dict[str, RequirementTest | None]:
    gate, every = scene.gate, np.ones(len(grades.exact))
    valid = (~np.isnan(grades.valid)).astype(np.float64)
    right, invented, missed = (grades.abstained[:, kind] for kind in (TP, FP, FN))
    return {
        "exact_match": _share(grades.exact, every, gate.exact_match, scene),
        "schema_validity": _share(np.nan_to_num(grades.valid), valid, gate.schema_validity, scene),
        "abstain_precision": _share(right, right + invented, gate.abstain_precision, scene),
        "abstain_recall": _share(right, right + missed, gate.abstain_recall, scene),
    }


def _share(hits: Array, items: Array, threshold: float | None, scene: Scene) -> RequirementTest | None:
    """Return the test of the share of hits among the items, of which row i has `items[i]`, `hits[i]` of them hits."""
    if threshold is None or not items.sum():
        return None
    clusters = scene.clusters.repeat(items)
    each = np.concatenate([np.repeat([1.0, 0.0], [int(hit), int(n - hit)]) for hit, n in zip(hits, items, strict=True)])
    test = score.proportion(each, clusters, threshold=threshold, level=scene.gate.level)
    return _scored(test, clusters, threshold, (share_spread(threshold), share_spread(float(test.value))), "Wilson score", scene)


def _against_teacher(result: EvalResult, scene: Scene) -> dict[str, RequirementTest | None]:
    if scene.teacher is None:
        return {}
    gate, every = scene.gate, np.ones(len(result.right), dtype=bool)
    rows = {"retention": (gate.retention, every), "retention_unseen": (gate.retention_unseen, unseen_rows(result.predictions))}
    return {name: _ratio(result, scene.teacher, mask, threshold, scene) for name, (threshold, mask) in rows.items()}


def _ratio(result: EvalResult, teacher: EvalResult, mask: Array, threshold: float | None, scene: Scene) -> RequirementTest | None:
    right, others = result.right[mask], teacher.right[mask]
    if threshold is None or not others.sum():
        return None
    clusters, share = scene.clusters.take(mask), float(others.mean())
    test = score.ratio(right, others, clusters, threshold=threshold, level=scene.gate.level)
    null = float(np.sqrt(score.ratio_variance(score.Pairs.of(right, others), threshold))) / share
    spread = float((right - threshold * others).std()) / share
    return _scored(test, clusters, threshold, (null, spread), "score of a paired ratio", scene)


def _difference(result: EvalResult, name: str | None, scene: Scene, *, threshold: float) -> RequirementTest | None:
    other = scene.others.get(name or "")
    return other and _pairs(result.right, other.right, scene.clusters, threshold, scene)


def _pairs(right: Array, others: Array, clusters: Clusters, threshold: float, scene: Scene) -> RequirementTest:
    test = score.difference(right, others, clusters, threshold=threshold, level=scene.gate.level)
    null = float(np.sqrt(score.difference_variance(score.Pairs.of(right, others), threshold)))
    exact = not threshold and clusters.count == clusters.rows
    method = MCNEMAR if exact else "score of a paired difference"
    return _scored(test, clusters, threshold, (null, float((right - others).std())), method, scene)


def _champion(result: EvalResult, scene: Scene) -> RequirementTest | None:
    """Return a test that is passed where there is nothing to compare with; None where there is a champion."""
    if scene.champion is None or scene.champion == result.name:
        why = "there is no champion" if scene.champion is None else "it is the champion"
        return RequirementTest(p_pass=0.0, method="nothing to compare with", detail=why)
    return None


def _slices(result: EvalResult, scene: Scene) -> RequirementTest | None:
    """Look for slices that are worse than the champion; none found passes, which proves nothing about small ones."""
    champion, asked = scene.others.get(scene.champion or ""), scene.gate.slices
    if champion is None or asked is None:
        return None
    masks = {name: mask for name, mask in scene.slices.items() if mask.sum() >= asked.rows}
    if not masks:
        return RequirementTest(detail=f"no slice of evaluation.slices has {asked.rows} prompts; lower gate.slices.rows")
    right, others = result.right, champion.right
    tests = {name: _pairs(right[mask], others[mask], scene.clusters.take(mask), 0.0, scene) for name, mask in masks.items()}
    worse = benjamini_hochberg({name: test.p_refuse for name, test in tests.items()}, asked.rate)
    lines = [f"{name} {tests[name].value:+.3f} ({tests[name].low:+.3f} to {tests[name].high:+.3f})" for name in worse]
    lowest = min(tests.values(), key=lambda test: test.value or 0.0)
    return RequirementTest(
        value=lowest.value, low=lowest.low, high=lowest.high, n=len(tests), p_pass=float(bool(worse)), p_refuse=float(not worse),
        method="Benjamini-Hochberg over slices", detail="; ".join(lines) or f"none of {len(tests)} slices is shown to be worse",
    )  # fmt: skip


def _ece(grades: Grades, scene: Scene) -> RequirementTest | None:
    measure = calibration.ece(grades.confidence, grades.exact)
    return _bootstrapped(measure, scene.gate.ece, scene, centred=True) if measure.n else None


def _cost(requests: Spent | None, scene: Scene) -> RequirementTest | None:
    if requests is None or requests.total is None or not requests.accepted.sum():
        return None
    columns = np.column_stack([1000 * requests.total, requests.accepted])
    measure = Measure(columns, lambda sums: divide(sums[..., 0], sums[..., 1]), len(columns))
    return _bootstrapped(measure, scene.gate.cost_per_1000_accepted, scene)


def _bootstrapped(measure: Measure, limit: float | None, scene: Scene, *, centred: bool = False) -> RequirementTest | None:
    """Return the test of an upper limit. `centred`: resamples are biased upwards, so their median is moved onto the value."""
    if limit is None:
        return None
    value, draws = measure.point, scene.resamples.spread(measure)
    draws = draws[~np.isnan(draws)]
    draws = draws + value - np.median(draws) if centred else draws
    low, high = np.quantile(draws, [scene.gate.level, 1 - scene.gate.level])
    p_values = ((1 + (draws > limit).sum()) / (1 + len(draws)), (1 + (draws < limit).sum()) / (1 + len(draws)))
    units = scene.clusters.count
    spread = float(draws.std()) * units**0.5
    return RequirementTest(
        wanted=limit, value=_rounded(value), low=_rounded(low), high=_rounded(high), n=measure.n, clusters=units,
        p_pass=_rounded(p_values[0]), p_refuse=_rounded(p_values[1]), null_spread=_rounded(spread), spread=_rounded(spread),
        more=further(abs(value - limit), (spread, spread), units, scene.risks), method="bootstrap of clusters",
    )  # fmt: skip


def _latency(result: EvalResult, scene: Scene) -> RequirementTest | None:
    limit, seconds = scene.gate.p95_ms, np.array(list(result.evaluated.seconds.values()), dtype=np.float64)
    test = None if limit is None else quantile(1000 * seconds, LATENCY_QUANTILE, limit=limit, level=scene.gate.level)
    if limit is None or test is None:
        return None
    within = float((1000 * seconds <= limit).mean())
    spreads = (share_spread(LATENCY_QUANTILE), share_spread(within))
    return RequirementTest(
        wanted=limit, value=_rounded(test.value), low=_rounded(test.low), high=_rounded(test.high), n=len(seconds),
        clusters=len(seconds), p_pass=_rounded(test.below), p_refuse=_rounded(test.above), method=test.method,
        more=further(abs(within - LATENCY_QUANTILE), spreads, len(seconds), scene.risks),
    )  # fmt: skip


def _size(found: int | None, limit: int | None) -> RequirementTest | None:
    if found is None or limit is None:
        return None
    fits = found <= limit
    return RequirementTest(wanted=limit, value=found, p_pass=float(not fits), p_refuse=float(fits), method="counted")


def _scored(
    test: score.ScoreTest, clusters: Clusters, threshold: float, spreads: tuple[float, float], method: str, scene: Scene
) -> RequirementTest:
    read: Callable[[Array], float] = _rounded
    design, size = float(test.design), clusters.mean_size
    return RequirementTest(
        wanted=threshold, value=read(test.value), low=read(test.low), high=read(test.high), n=clusters.rows,
        clusters=clusters.count, design_effect=round(design, 4), icc=round((design - 1) / (size - 1), 4) if size > 1 else None,
        p_pass=read(test.above), p_refuse=read(test.below),
        null_spread=read(spreads[0]), spread=read(spreads[1]), method=method,
        more=further(abs(float(test.value) - threshold), spreads, clusters.rows / design, scene.risks),
    )  # fmt: skip


def _rounded(value: Array | float) -> float:
    return round(float(value), 9)
