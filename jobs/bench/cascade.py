"""Certified cascades on the holdout predictions of a finished run: is the promise kept, and what does it bring?

Two measurements, both from answers that are there already:

- draws: whole clusters are drawn with replacement from the holdout, as many as half of it has; thresholds are certified on the
  draw. The whole holdout is the population here: a promise is broken if the threshold's risk on it is above alpha.
- splits: half of the clusters certifies, the other half says accuracy and price of the cascade against the last stage alone.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from engine.contract.serving import Cascade, Stage
from engine.records.base import Record
from engine.records.report import ModelEntry, Report
from engine.rows import PREDICTION
from engine.serving.certify import Holdout, certified
from engine.serving.curve import Graded
from engine.stats.clusters import Clusters
from engine.stats.intervals import Array
from engine.stats.selective import Answers, Order, Promise, certify, order_of
from jobs import workspace
from jobs.bench import serving
from jobs.commands.cascade import holdout_of
from jobs.steps.curves import graded
from jobs.terminal.console import columns

METHODS = ("rows", "effective", "thinned")


class Kept(Record):
    """One way of setting a threshold, over all draws."""

    way: str
    alpha: float
    broken: float
    """Share of draws whose threshold has a risk above alpha."""
    coverage: float
    """Mean share of requests that the student answers; 0 where no threshold was found."""
    found: float
    """Share of draws in which there was a threshold."""


class Brought(Record):
    """The cascade on the halves that did not certify."""

    alpha: float
    splits: int
    coverage: float
    accuracy: float
    """Mean accuracy less that of the last stage alone."""
    cost: float | None
    """Mean price of a right answer over that of the last stage alone."""
    met: float
    """Share of splits with accuracy at least the last stage's less 0.01, and a price of at most 0.6 of it."""


class CascadeBench(Record):
    """The result."""

    student: str
    fallback: str
    rows: int
    clusters: int
    delta: float
    kept: tuple[Kept, ...]
    brought: tuple[Brought, ...]


class Plan(NamedTuple):
    """How much is measured."""

    student: str | None = None
    alphas: Sequence[float] = (0.1, 0.15, 0.2)
    delta: float = 0.1
    draws: int = 500
    splits: int = 200


class _Draw(NamedTuple):
    answers: Answers
    order: Order


def bench(run: str, python: str, plan: Plan) -> CascadeBench:
    """Return the measurements on the finished run; `python`: the interpreter that may have MAPIE."""
    work = workspace.reopen(run)
    report = workspace.read_model(work.folder / "reports", "report.json", Report)
    table = workspace.finished(work.folder, "reports").read("predictions", PREDICTION)
    best = {role: max((each for each in report.models if each.role == role), key=_exact).name for role in ("student", "teacher")}
    student = plan.student or best["student"]
    models = graded(table, [student, best["teacher"]], work.contract.budget.price, report.models)
    holdout = holdout_of(table, student, work)
    kept = [each for alpha in plan.alphas for each in _kept(models[student], holdout, alpha, plan, python)]
    return CascadeBench(
        student=student,
        fallback=best["teacher"],
        rows=len(holdout.ids),
        clusters=Clusters(holdout.labels).count,
        delta=plan.delta,
        kept=tuple(kept),
        brought=tuple(_brought(models, holdout, alpha, plan) for alpha in plan.alphas),
    )


def as_text(result: CascadeBench) -> str:
    """Return both tables."""
    kept = [[each.way, each.alpha, each.broken, each.coverage, each.found] for each in result.kept]
    brought = [[each.alpha, each.coverage, each.accuracy, each.cost, each.met] for each in result.brought]
    who = f"{result.student} before {result.fallback}"
    return "\n".join(
        [
            f"{who}: {result.rows} prompts in {result.clusters} clusters, delta {result.delta:g}",
            columns(kept, head=["way", "alpha", "broken", "coverage", "found"]),
            "",
            columns(brought, head=["alpha", "coverage", "accuracy less fallback", "cost ratio", "splits that meet both"]),
        ]
    )


def _kept(model: Graded, holdout: Holdout, alpha: float, plan: Plan, python: str) -> Iterator[Kept]:
    promise = Promise(alpha, plan.delta, 3)
    confidence, wrong = np.where(model.sound > 0, model.confidence, np.nan), 1 - model.right
    draws = list(_draws(confidence, model.right, holdout, promise, plan.draws))
    ways: dict[str, list[float | None]] = {
        method: [certify(draw.answers, promise._replace(method=method), draw.order).threshold for draw in draws]
        for method in METHODS
    }
    ways["by eye"] = [_by_eye(draw, alpha) for draw in draws]
    if "mapie" in serving.installed(python):
        rows = [
            {
                "confidence": draw.answers.confidence.tolist(),
                "right": draw.answers.right.tolist(),
                "thresholds": draw.order.thresholds.tolist(),
            }
            for draw in draws
        ]
        found = serving.ask(python, "mapie", {"alpha": alpha, "delta": plan.delta, "draws": rows})
        ways["MAPIE, three starts, same list"] = [each["same"] for each in found]
        ways["MAPIE, three starts, its list"] = [each["default"] for each in found]
    for way, thresholds in ways.items():
        masks = [np.nan_to_num(confidence, nan=-np.inf) >= (np.inf if each is None else each) for each in thresholds]
        broken = [bool(mask.any()) and float(wrong[mask].mean()) > alpha for mask in masks]
        coverage = float(np.mean([mask.mean() for mask in masks]))
        found_share = float(np.mean([each is not None for each in thresholds]))
        yield Kept(way=way, alpha=alpha, broken=float(np.mean(broken)), coverage=coverage, found=found_share)


def _draws(confidence: Array, right: Array, holdout: Holdout, promise: Promise, count: int) -> Iterator[_Draw]:
    """Yield draws of clusters for certifying, each with the order that another draw's confidences give."""
    clusters = Clusters(holdout.labels)
    members = np.split(clusters.order, clusters.starts[1:])
    draw = np.random.default_rng(0)
    for _ in range(count):
        chosen, others = (draw.integers(0, len(members), len(members) // 2) for _ in range(2))
        rows = np.concatenate([members[index] for index in chosen])
        labels = np.repeat(np.arange(len(chosen)), [len(members[index]) for index in chosen])
        known = np.nan_to_num(confidence[rows], nan=0.0)
        answers = Answers(known, right[rows], [f"{number}-{row}" for number, row in enumerate(rows)], labels.tolist())
        yield _Draw(answers, order_of(confidence[np.concatenate([members[index] for index in others])], len(rows), promise))


def _by_eye(draw: _Draw, alpha: float) -> float | None:
    """Return the loosest threshold whose risk on the draw itself is at most alpha."""
    for threshold in draw.order.thresholds[::-1]:
        mask = draw.answers.confidence >= threshold
        if mask.any() and 1 - draw.answers.right[mask].mean() <= alpha:
            return float(threshold)
    return None


def _brought(models: dict[str, Graded], holdout: Holdout, alpha: float, plan: Plan) -> Brought:
    section = Cascade(alpha=alpha, delta=plan.delta, stages=tuple(Stage(to=name) for name in models))
    checks = [certified(models, holdout, section, {}, seed=seed).check for seed in range(plan.splits)]
    gains = np.array([each.against_fallback.value if each.against_fallback else np.nan for each in checks])
    costs = np.array([each.cost_vs_fallback.value if each.cost_vs_fallback else np.nan for each in checks])
    return Brought(
        alpha=alpha,
        splits=plan.splits,
        coverage=float(np.mean([each.coverage.value if each.coverage else 0.0 for each in checks])),
        accuracy=float(np.nanmean(gains)),
        cost=None if np.isnan(costs).all() else float(np.nanmean(costs)),
        met=float(np.mean((gains >= -0.01) & (costs <= 0.6))),
    )


def _exact(model: ModelEntry) -> float:
    return model.metrics.exact_match.value if model.metrics.exact_match else -1.0
