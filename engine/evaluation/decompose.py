"""A student's errors against its teacher's: which were learnt, which are its own, and where it is better than its teacher."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.checks import parse
from engine.records.estimate import Estimate
from engine.records.worth import Concentration, Decomposition, ErrorClass
from engine.stats import agreement
from engine.stats.bootstrap import Array, Measure, Resamples
from engine.stats.crossed import Crossed, by_cluster, crossed
from engine.stats.intervals import MIN_VALUES
from engine.stats.multiple import holm_steps

EXAMPLES = 5
"""prompt_ids of a class that a report names."""
DIMENSIONS = ("task_unit", "layer", "difficulty", "scenario")
FIELD = "field"


class Answered(NamedTuple):
    """A model's answers to the n holdout prompts; all sequences are in the same order."""

    name: str
    prompts: Sequence[str]
    clusters: Sequence[object]
    """(n,) labels; prompts of one label are not independent."""
    right: Array
    """(n,) 1 = right."""
    answers: Sequence[str]

    @classmethod
    def of(cls, name: str, rows: pa.Table, clusters: Sequence[object]) -> "Answered":
        """Return the answers of PREDICTION rows of one model."""
        right = np.array(rows["exact"].to_pylist(), dtype=np.float64)
        return cls(name, rows["prompt_id"].to_pylist(), clusters, right, rows["answer"].to_pylist())


class Bootstrap(NamedTuple):
    """How intervals are drawn."""

    times: int
    level: float
    seed: int

    def estimate(self, measure: Measure, clusters: Sequence[object]) -> Estimate | None:
        """Return `measure` with an interval over draws of whole clusters; None where it is undefined."""
        drawn = agreement.clustered(measure, clusters)
        return Resamples(len(drawn.columns), times=self.times, level=self.level, seed=self.seed).estimate(drawn)


def decompose(student: Answered, teacher: Answered, draws: Bootstrap) -> Decomposition:
    """Return the classes of `student`'s answers against those of `teacher`, which has the same prompts in the same order."""
    right, taught, clusters = student.right == 1, teacher.right == 1, student.clusters
    same = np.array([answer_key(mine) == answer_key(other) for mine, other in zip(student.answers, teacher.answers, strict=True)])
    classes = {
        "both_right": right & taught,
        "error_learnt": ~right & ~taught & same,
        "not_learnt": ~right & taught,
        "better": right & ~taught,
        "both_wrong": ~right & ~taught & ~same,
    }
    wrong = np.flatnonzero(~taught)
    learnt = classes["error_learnt"][wrong].astype(np.float64)
    equal = (same | (right & taught)).astype(np.float64)
    return Decomposition(
        student=student.name,
        teacher=teacher.name,
        **{name: _class(mask, student, draws.level) for name, mask in classes.items()},
        error_consistency=draws.estimate(agreement.error_consistency(student.right, teacher.right), clusters),
        answer_agreement=draws.estimate(agreement.answer_agreement(student.right, teacher.right, equal), clusters),
        errors_shared=agreement.clustered_share(learnt, [clusters[row] for row in wrong], level=draws.level),
    )


def _class(mask: Array, student: Answered, level: float) -> ErrorClass:
    share = agreement.clustered_share(mask.astype(np.float64), student.clusters, level=level)
    assert share is not None, "the holdout has a row"
    examples = tuple(prompt for prompt, is_in in zip(student.prompts, mask.tolist(), strict=True) if is_in)[:EXAMPLES]
    return ErrorClass(count=int(mask.sum()), share=share, examples=examples)


def answer_key(answer: str) -> str:
    """Return what two equal answers have in common: their JSON, or else their text."""
    value = parse(answer)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else answer.strip()


def concentrations(answered: Answered, rows: pa.Table, *, level: float) -> list[Concentration]:
    """Return the slices on which a model errs more often than elsewhere, and the fields that it gets wrong more often than others.

    `rows` are its PREDICTION rows. Only those are returned whose interval, corrected for all slices and fields that were looked at
    (Holm), lies above 0: largest excess first.
    """
    wrong = 1 - answered.right
    looked = [*_slices(answered, rows, wrong), *_fields(answered, rows, wrong)]
    steps = holm_steps([each.excess.p_value for each in looked], 1 - level)
    shown = [
        Concentration(
            model=answered.name,
            dimension=each.dimension,
            value=each.value,
            errors=each.errors,
            of=int(wrong.sum()),
            excess=each.excess.interval(1 - error),
            level=round(1 - error, 6),
        )
        for each, (error, is_shown) in zip(looked, steps, strict=True)
        if is_shown and each.excess.value > 0
    ]
    return sorted(shown, key=lambda each: -each.excess.value)


class _Looked(NamedTuple):
    dimension: str
    value: str
    errors: int
    excess: Crossed


def _slices(answered: Answered, rows: pa.Table, wrong: Array) -> list[_Looked]:
    looked = []
    for dimension in DIMENSIONS:
        labels = np.array([str(value or "") for value in rows[dimension].to_pylist()], dtype=object)
        for value in sorted(set(labels) - {""}):
            inside = labels == value
            if min(inside.sum(), (~inside).sum()) < MIN_VALUES:
                continue
            # A scenario is one cluster: what varies within it is all that is known of it.
            clusters = ["" for _ in wrong] if dimension == "scenario" else answered.clusters
            if excess := excess_rate(wrong, inside, clusters):
                looked.append(_Looked(dimension, value, int(wrong[inside].sum()), excess))
    return looked


def excess_rate(wrong: Array, inside: Array, clusters: Sequence[object]) -> Crossed | None:
    """Return the share of `wrong` rows, (n,) of 0 and 1, in the mask `inside` less that outside; None below MIN_VALUES clusters."""
    rates = wrong[inside].mean(), wrong[~inside].mean()
    influence = np.where(inside, (wrong - rates[0]) / inside.sum(), -(wrong - rates[1]) / (~inside).sum())
    excess = crossed(float(rates[0] - rates[1]), influence[None, :], clusters)
    if excess is None:
        return None
    # Where all prompts of a slice are wrong and no other one is, nothing varies: Agresti and Caffo, The American
    # Statistician 54, 2000, add one error and one right answer to each side.
    padded = [(float(wrong[side].sum()) + 1, int(side.sum()) + 2) for side in (inside, ~inside)]
    least = sum(hits / rows * (1 - hits / rows) / rows for hits, rows in padded)
    return excess._replace(variance=max(excess.variance, least))


def _fields(answered: Answered, rows: pa.Table, wrong: Array) -> list[_Looked]:
    """Return for each field of JSON answers how much more often it is wrong, among the errors, than the mean of the others."""
    pairs = [
        (parse(reference), parse(answer)) if is_wrong else (None, None)
        for reference, answer, is_wrong in zip(rows["reference"].to_pylist(), answered.answers, wrong, strict=True)
    ]
    both = np.array([isinstance(expected, dict) and isinstance(actual, dict) for expected, actual in pairs])
    names = sorted({name for expected, _ in pairs if isinstance(expected, dict) for name in expected})
    errors = int(both.sum())
    if len(names) < 2 or errors < MIN_VALUES:
        return []
    differs = np.array([[float(_differs(pair, name)) for name in names] for pair, ok in zip(pairs, both, strict=True) if ok])
    clusters = [answered.clusters[row] for row in np.flatnonzero(both)]
    looked = []
    for column, name in enumerate(names):
        own = differs[:, column]
        excess = own - np.delete(differs, column, axis=1).mean(axis=1)
        measured = crossed(float(excess.mean()), (excess - excess.mean())[None, :] / errors, clusters)
        if measured:
            looked.append(_Looked(FIELD, name, int(own.sum()), measured))
    return looked


def _differs(pair: tuple[object, object], name: str) -> bool:
    expected, actual = pair
    assert isinstance(expected, Mapping) and isinstance(actual, Mapping)
    return json.dumps(expected.get(name), sort_keys=True) != json.dumps(actual.get(name), sort_keys=True)


def num_clusters(clusters: Sequence[object]) -> int:
    """Return the number of clusters; a prompt without a label is one by itself."""
    return by_cluster(np.ones((1, len(clusters))), clusters).shape[-1]
