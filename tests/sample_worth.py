"""Return, attribution and advice of the sample report: made by the code of the reports step from generated predictions."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from engine.contract.budget import Price
from engine.evaluation import curve
from engine.evaluation.advice import concluded
from engine.evaluation.attribution import Trained, controls, effects
from engine.evaluation.buckets import ExampleFacts, buckets, training_sets
from engine.evaluation.decompose import Answered, Bootstrap, concentrations, decompose, num_clusters
from engine.evaluation.payback import Requests, Terms, payback
from engine.records.ablation import Training
from engine.records.attribution import Attribution
from engine.records.curve import CurvePoint, LearningCurve
from engine.records.report import ModelEntry
from engine.records.worth import Copies, RunCost, Worth
from engine.rows import Row
from engine.stats.crossed import crossed_mean
from engine.stats.intervals import proportion

SEEDS, PROMPTS, LEVEL = 3, 240, 0.95
DRAWS = Bootstrap(200, LEVEL, 0)
CLUSTERS = [f"scenario {index // 2}" for index in range(PROMPTS)]


def worth(rows: Sequence[Row], models: Sequence[ModelEntry]) -> Worth:
    """Return the record on PREDICTION rows and the models' entries."""
    tables = {name: pa.Table.from_pylist([row for row in rows if row["model"] == name]) for name in ("smol", "s", "xs")}
    answered = {
        name: Answered.of(name, table, [scenario or "" for scenario in table["scenario"].to_pylist()])
        for name, table in tables.items()
    }
    cost = RunCost(currency="EUR", teachers=1.25, training=0.4, labels=12.0, num_labels=40, total=13.65, without=("the rest",))
    terms = Terms(Price(per_machine_hour=1.0), cost.total, 5000, DRAWS)
    requests = {
        name: Requests(each.right, np.full(len(each.right), seconds), np.zeros(len(each.right)))
        for (name, each), seconds in zip(answered.items(), (0.8, 0.2, 1.1), strict=True)
    }
    none = np.zeros(len(answered["smol"].right))
    paybacks = [payback(name, requests[name], requests["smol"], none, terms, answered[name].clusters) for name in ("s", "xs")]
    share = proportion(24, 240)
    assert share
    found = Worth(
        level=LEVEL,
        decompositions=tuple(decompose(answered[name], answered["smol"], DRAWS) for name in ("s", "xs")),
        concentrations=tuple(concentrations(answered["smol"], tables["smol"], level=LEVEL)),
        cost=cost,
        paybacks=tuple(each for each in paybacks if each),
        copies=Copies(source="sources", copies=24, prompts=240, share=share),
        curve=_curve(),
        attribution=_attribution(),
    )
    return concluded(found, models, run="runs/order-mail")


def _trained(chance: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hardness = np.random.default_rng(0).random(PROMPTS)
    return (hardness < chance + rng.normal(0, 0.05, (SEEDS, PROMPTS))).astype(np.float64)


def _curve() -> LearningCurve:
    exact = [_trained(chance, seed) for seed, chance in enumerate((0.55, 0.68, 0.77))]
    points = []
    for size, share, cells in zip((75, 150, 300), curve.SHARES, exact, strict=True):
        measured = crossed_mean(cells, CLUSTERS)
        runs = [Training(seed=seed, exact_match=float(row.mean())) for seed, row in enumerate(cells)]
        points.append(CurvePoint(share=share, examples=size, runs=runs, exact_match=measured.interval(LEVEL) if measured else None))
    fitted = curve.fit([75, 150, 300], exact, CLUSTERS, level=LEVEL)
    assert isinstance(fitted, curve.Fit)
    return LearningCurve(
        **common(), points=points, law=curve.LAW, next_examples=600, **fitted._asdict()
    )  # fmt: skip


def _attribution() -> Attribution:
    facts = [
        ExampleFacts(str(index), "smol" if index % 3 else "other", "hard" if index % 4 == 0 else "train", None, "", "")
        for index in range(300)
    ]
    found = buckets(facts, seeds=SEEDS)
    gains = {"without teacher other": 0.2, "without pool hard": -0.1}
    exact = {each: _trained(0.7 + gains.get(each.name, 0.0), seed) for seed, each in enumerate(training_sets(found))}
    trained = Trained(exact, CLUSTERS, level=LEVEL, worth=0.01)
    return Attribution(
        **common(), examples=300, worth=0.01, controls=controls(found, trained), buckets=effects(found, trained)
    )  # fmt: skip


def common() -> Row:
    """Return what both results of `rayleigh ablate` have."""
    names = {"run": "runs/order-mail", "student": "s", "dataset": "d"}
    return {**names, "seeds": SEEDS, "epochs": 3, "prompts": PROMPTS, "clusters": num_clusters(CLUSTERS), "level": LEVEL}
