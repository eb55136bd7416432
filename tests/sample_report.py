"""A report as the reports step writes it, from generated predictions; the gate's decision is computed by the gate."""

import math

import numpy as np
import sample_worth

from engine.contract.gate import Gate
from engine.records.certificate import CascadeCurve
from engine.records.gate import RequirementTest
from engine.records.report import Holdout, ModelEntry, Report
from engine.release.gate import decide, thresholds
from engine.release.point import estimate_of
from engine.rows import Row
from engine.serving.curve import Graded, curve

MODELS = {  # role, parameters, layers, chance to be right on seen and unseen scenarios, p95 in ms
    "smol": ("teacher", 134_515_008, 30, 0.93, 0.86, 812.0),
    "s": ("student", 49_570_752, 6, 0.92, 0.85, 233.0),
    "xs": ("student", 38_950_000, 3, 0.74, 0.55, 151.0),
    "rules": ("baseline", None, None, 0.55, 0.41, 0.4),
    "nearest": ("baseline", None, None, 0.16, 0.05, 1.9),
}
GATE = {
    "by": "point",
    "retention": 0.9,
    "retention_unseen": 0.9,
    "exact_match": 0.8,
    "schema_validity": 0.98,
    "abstain_precision": None,
    "abstain_recall": 0.8,
    "ece": 0.15,
    "p95_ms": 400.0,
    "beats": ["rules"],
}


def around(value: float, n: int) -> Row:
    """A value with a normal interval."""
    wide = 1.96 * math.sqrt(max(value * (1 - value), 0.002) / n)
    return {"value": value, "low": max(0.0, value - wide), "high": min(1.0, value + wide), "n": n}


def report(rows: list[Row], nasty: str) -> Report:
    """Return the report on PREDICTION rows; some model text is `nasty`."""
    seen = {row["prompt_id"]: row["seen"] for row in rows}
    entries = [_entry(name, [row for row in rows if row["model"] == name]) for name in MODELS]
    exact = {entry["name"]: entry["metrics"]["exact_match"]["value"] for entry in entries}
    for entry in entries[1:]:
        own, best = exact[entry["name"]], exact["smol"]
        entry["against_teacher"] = {
            "teacher": "smol",
            "difference": {"value": own - best, "low": own - best - 0.05, "high": own - best + 0.05},
            "retention": {"value": own / best, "low": own / best - 0.05, "high": own / best + 0.05},
            "retention_unseen": {"value": own / best - 0.01, "low": own / best - 0.08, "high": own / best + 0.06},
        }
        entry["against_baselines"] = {
            name: {"value": (gap := own - exact[name]), "low": gap - 0.09, "high": gap + 0.09} for name in ("rules", "nearest")
        }
    models = tuple(ModelEntry.model_validate(entry) for entry in entries)
    return Report(
        run="runs/order-mail",
        contract="order-mail",
        created="2026-01-31T09:14:00Z",
        holdout=Holdout(rows=len(seen), seen=sum(seen.values()), unseen=len(seen) - sum(seen.values())),
        models=models,
        gate=decide(models, Gate.model_validate(GATE)),
        findings=(
            "The numbers on unseen scenarios rest on few prompts.",
            "The difference of s and smol is not significant on this holdout: -0.017 exact match.",
            *([f"Some finding quotes {nasty}"] if nasty else []),
        ),
        worth=sample_worth.worth(rows, models),
        cascade=_cascade(rows),
    )


def _cascade(rows: list[Row]) -> tuple[CascadeCurve, ...]:
    """The curves of both students before the teacher, each answer with the confidence of its row; students cost a third."""
    models = {}
    for name, price in (("smol", 3e-5), ("s", 1e-5), ("xs", 1e-5)):
        own = sorted((row for row in rows if row["model"] == name), key=lambda row: row["prompt_id"])
        confidence = np.array([row["confidence"] if row["confidence"] is not None else np.nan for row in own], dtype=np.float64)
        right = np.array([row["exact"] for row in own], dtype=np.float64)
        models[name] = Graded(right, confidence, np.ones(len(own)), np.full(len(own), price))
    return tuple(curve(name, "smol", models) for name in ("s", "xs"))


def _entry(name: str, rows: list[Row]) -> Row:
    role, parameters, layers, _, _, p95 = MODELS[name]
    right = {
        key: [row["exact"] for row in rows if keep(row)]
        for key, keep in {
            "exact_match": lambda row: True,
            "exact_match_unseen": lambda row: not row["seen"],
            "exact_match_seen": lambda row: row["seen"],
        }.items()
    }
    metrics: Row = {key: around(sum(found) / len(found), len(found)) for key, found in right.items()}
    value, n = metrics["exact_match"]["value"], len(rows)
    metrics |= {
        "field_f1": around(value**0.4, 360),
        "schema_validity": around(0.99, n),
        "abstain_precision": around(0.9, 40),
        "abstain_recall": around(0.86, 44),
    }
    metrics |= {"ece": around(0.07, n), "brier": around(0.11, n)} if role != "baseline" else {"ece": None, "brier": None}
    return {
        "name": name,
        "role": role,
        "parameters": parameters,
        "layers": layers,
        "size_vs_teacher": parameters and parameters / 134_515_008,
        "error": None,
        "metrics": metrics,
        "fields": {
            f: {"precision": value**p, "recall": value**0.5, "f1": value**0.45}
            for f, p in (("order_number", 0.2), ("product", 0.6), ("quantity", 0.3))
        },
        "slices": {d: _slice(rows, d) for d in ("layer", "difficulty", "seen")},
        "latency": {"p50_ms": p95 * 0.7, "p95_ms": p95, "n": 40},
        "tokens_per_second": 28_000 / p95 if role != "baseline" else None,
        "memory_mib": parameters and parameters / 2**19 + 600,
        "cost": {
            "per_1000_accepted": p95 / 36_000 / value,
            "answered_share": 0.93,
            "fallback_share": 0.07,
            "accepted_share": value,
        },
        "calibration": {"bins": _bins(rows)},
        "against_teacher": None,
        "against_baselines": {},
    }


def _slice(rows: list[Row], dimension: str) -> Row:
    found: dict[str, list[bool]] = {}
    for row in rows:
        value = ("seen" if row["seen"] else "unseen") if dimension == "seen" else row[dimension]
        found.setdefault(value, []).append(row["exact"])
    return {
        value: {"n": len(exact), "exact_match": around(sum(exact) / len(exact), len(exact))}
        for value, exact in sorted(found.items())
    }


def _bins(rows: list[Row]) -> list[Row]:
    bins = []
    for index in range(10):
        inside = [row for row in rows if row["confidence"] is not None and min(9, int(row["confidence"] * 10)) == index]
        n = len(inside)
        sums = {
            "confidence": sum(r["confidence"] for r in inside) / n if n else None,
            "accuracy": sum(r["exact"] for r in inside) / n if n else None,
        }
        bins.append({"low": index / 10, "high": (index + 1) / 10, "n": n, **sums})
    return bins


def proven(numbers: Report) -> Report:
    """Return the report as a gate that proves decides it: one student passes, one is refused, and one requirement is open."""
    gate = Gate.model_validate({**GATE, "by": "prove", "students": "holm", "champion": 0.02})
    ends = {"s": (0.0, 0.001), "xs": (0.0, 0.97)}
    models = [
        model if model.role != "student" else model.model_copy(update={"tests": _tests(model, gate, *ends[model.name])})
        for model in numbers.models
    ]
    return numbers.model_copy(update={"models": tuple(models), "gate": decide(models, gate)})


def _tests(model: ModelEntry, gate: Gate, sure: float, last: float) -> dict[str, RequirementTest]:
    tests = {}
    for name, wanted in thresholds(model, gate).items():
        found = estimate_of(model, name)
        p_pass = last if name == "exact_match" else 0.3 if name == "retention" and last > 0.5 else sure
        about = {"p_pass": p_pass, "p_refuse": 1 - p_pass, "method": "score of a paired ratio"}
        basis = {"value": found.value, "low": found.low, "high": found.high} if found else {"detail": "there is no champion"}
        sizes = (
            {"n": 128, "clusters": 80, "design_effect": 1.6, "more": 412}
            if found and name != "p95_ms"
            else {"n": 40 if found else 0}
        )
        tests[name] = RequirementTest.model_validate({"wanted": wanted, **about, **basis, **sizes})
    return tests
