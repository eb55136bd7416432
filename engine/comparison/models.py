"""The models of two runs on the prompts that both holdouts have, paired prompt by prompt.

A paired comparison removes what is the same for both, the difficulty of the prompts, so its interval is much narrower than the two
intervals side by side say. Whole clusters of dependent prompts are the unit (`engine/stats/score.py`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.records.comparison import ModelCompared, ModelsCompared, RequirementShift
from engine.records.estimate import Estimate
from engine.records.gate import GateDecision, GateNumber, Word
from engine.records.report import ModelEntry, Report
from engine.rows import Row
from engine.stats.clusters import Clusters
from engine.stats.intervals import estimate
from engine.stats.multiple import holm
from engine.stats.score import difference

COLUMNS = ["model", "prompt_id", "reference", "exact", "scenario"]


class Evaluated(NamedTuple):
    """What one run measured on its holdout."""

    report: Report
    predictions: pa.Table
    """PREDICTION, at least COLUMNS."""


class Paired(NamedTuple):
    """One model's answers to the prompts that both runs have."""

    estimate: Estimate | None = None
    p_value: float | None = None
    gained: int = 0
    lost: int = 0


def compare_models(before: Evaluated, after: Evaluated, clusters: Mapping[str, object], *, level: float) -> ModelsCompared:
    """Return the models of both runs, paired. `clusters`: prompt -> its cluster, of the prompts that are not alone in theirs."""
    sides = (before, after)
    right = [_right(side.predictions) for side in sides]
    references = [_references(side.predictions) for side in sides]
    shared = [prompt for prompt in references[0] if prompt in references[1]]
    entries = [{(model.name, model.role): model for model in side.report.models} for side in sides]
    names = [name for name in entries[0] if name in entries[1]]
    paired = {name: _paired(right[0].get(name, {}), right[1].get(name, {}), clusters, level) for name, _ in names}
    p_values = {name: each.p_value for name, each in paired.items() if each.p_value is not None}
    proven = set(holm(p_values, 1 - level))
    return ModelsCompared(
        prompts=(len(references[0]), len(references[1]), len(shared)),
        references_changed=sum(references[0][prompt] != references[1][prompt] for prompt in shared),
        level=level,
        models=tuple(
            _model((entries[0][name], entries[1][name]), (before.report.gate, after.report.gate), paired[name[0]], proven)
            for name in names
        ),
        only_before=tuple(name for name, role in entries[0] if (name, role) not in entries[1]),
        only_after=tuple(name for name, role in entries[1] if (name, role) not in entries[0]),
        winners=(before.report.gate.winner, after.report.gate.winner),
    )


def _right(predictions: pa.Table) -> dict[str, dict[str, bool]]:
    """Return model -> prompt -> whether its answer was exact."""
    right: dict[str, dict[str, bool]] = {}
    for row in predictions.select(["model", "prompt_id", "exact"]).to_pylist():
        if row["exact"] is not None:
            right.setdefault(row["model"], {})[row["prompt_id"]] = row["exact"]
    return right


def _references(predictions: pa.Table) -> dict[str, str | None]:
    return {row["prompt_id"]: row["reference"] for row in predictions.select(["prompt_id", "reference"]).to_pylist()}


def _paired(before: Mapping[str, bool], after: Mapping[str, bool], clusters: Mapping[str, object], level: float) -> Paired:
    """Return the difference of one model's exact match, after less before, by the score test for pairs (Tango, 1998)."""
    prompts = [prompt for prompt in before if prompt in after]
    if not prompts:
        return Paired()
    old, new = (np.array([side[prompt] for prompt in prompts], dtype=np.float64) for side in (before, after))
    test = difference(new, old, Clusters([clusters.get(prompt) for prompt in prompts]), threshold=0.0, level=(1 - level) / 2)
    p_value = min(1.0, 2 * min(float(test.above), float(test.below)))
    found = estimate(float(test.value), float(test.low), float(test.high), len(prompts))
    return Paired(found, round(p_value, 6), int((new > old).sum()), int((old > new).sum()))


def _model(
    entries: tuple[ModelEntry, ModelEntry], gates: tuple[GateDecision, GateDecision], paired: Paired, proven: set[str]
) -> ModelCompared:
    one, other = entries
    words: list[Word | None] = [gate.words.get(one.name) if one.role == "student" else None for gate in gates]
    values: Row = {
        "exact_match": tuple(entry.metrics.exact_match for entry in entries),
        "p95_ms": tuple(entry.latency and entry.latency.p95_ms for entry in entries),
        "per_1000_accepted": tuple(entry.cost and entry.cost.per_1000_accepted for entry in entries),
        **{name: tuple(getattr(entry, name) for entry in entries) for name in ("parameters", "weight_bytes")},
    }
    return ModelCompared(
        name=one.name, role=other.role, difference=paired.estimate, p_value=paired.p_value, differs=one.name in proven,
        gained=paired.gained, lost=paired.lost, words=(words[0], words[1]),
        requirements=_requirements(one.name, gates) if one.role == "student" else (), **values,
    )  # fmt: skip


def _requirements(student: str, gates: tuple[GateDecision, GateDecision]) -> tuple[RequirementShift, ...]:
    before, after = ({number.number: number for number in gate.numbers.get(student, ())} for gate in gates)
    shifts = [_shift(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]
    return tuple(shift for shift in shifts if shift.wanted[0] != shift.wanted[1] or shift.words[0] != shift.words[1])


def _shift(name: str, before: GateNumber | None, after: GateNumber | None) -> RequirementShift:
    return RequirementShift(
        number=name,
        found=(before and before.found, after and after.found),
        wanted=(before and before.wanted, after and after.wanted),
        words=(before and _word(before), after and _word(after)),
    )


def _word(number: GateNumber) -> Word:
    return number.word or ("pass" if number.passed else "refuse")
