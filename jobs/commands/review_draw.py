"""The most informative answers for a person to label, and how much narrower the judge's intervals would get by their labels.

An answer is informative if its confidence is far from sure and its prompt is unlike the labelled ones: a greedy k-center in which
the distance to the nearest labelled or drawn prompt is weighted by the uncertainty 4 p (1 - p) (core sets: Sener and Savarese,
2018, algorithm 1; with uncertainty: Zhdanov, 2019). Drawn
answers are no random sample: they are harder than the others.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import InputError
from engine.records.calibration import JudgeAgreement
from engine.records.estimate import Estimate
from engine.records.review import IntervalForecast
from engine.stats.intervals import estimate, normal_interval, wilson

READ = ["answer_id", "prompt_id", "text", "confidence", "pool", "finish_reason"]
MOST = 5000  # answers that are compared with each other: the most uncertain ones
LEAST = 1e-3  # uncertainty of an answer of which the model is sure


class Draw(NamedTuple):
    """What is to be labelled."""

    answer_ids: list[str]  # most informative first
    right: float  # of them that are expected to be right


def draw(pieces: Iterable[pa.Table], size: int, *, pool: str | None, labelled: Sequence[str], known: set[str]) -> Draw:
    """Return `size` answers of `pieces` (READ), one a prompt; `labelled` are prompts and `known` answers that have a label.

    Raises:
        InputError: no answer has a confidence.
    """
    best: dict[str, tuple[float, str, str, float]] = {}
    for piece in pieces:
        judged = piece.filter(pc.and_(pc.is_valid(piece["confidence"]), pc.equal(piece["finish_reason"], "stop")))
        for row in judged.to_pylist():
            if (pool and row["pool"] != pool) or row["answer_id"] in known:
                continue
            share = row["confidence"]
            entry = (-4 * share * (1 - share), row["answer_id"], row["text"], share)
            best[row["prompt_id"]] = min(best.get(row["prompt_id"], entry), entry)
    if not best:
        raise InputError(
            "--draw: found no answer with a confidence that has no label yet, expected some. Draw from another --pool, or give the "
            "contract a judge or `judges.evidence`."
        )
    entries = sorted(best.values())[:MOST]
    order = _spread([text for _, _, text, _ in entries], [max(LEAST, -entry[0]) for entry in entries], labelled, size)
    return Draw([entries[index][1] for index in order], sum(entries[index][3] for index in order))


def _spread(texts: Sequence[str], weights: Sequence[float], labelled: Sequence[str], size: int) -> list[int]:
    """Return the positions of a weighted greedy k-center; ties go to the first."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer: Any = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    vectors = vectorizer.fit_transform([*texts, *labelled])
    own = vectors[: len(texts)]
    likeness = np.zeros(len(texts))
    for start in range(len(texts), vectors.shape[0], MOST):
        near = (own @ vectors[start : start + MOST].T).max(axis=1).toarray().ravel()
        likeness = np.maximum(likeness, near)
    order: list[int] = []
    for _ in range(min(size, len(texts))):
        worth = np.round(np.array(weights) * (1 - np.clip(likeness, 0, 1)), 9)
        worth[order] = -1.0
        order.append(int(worth.argmax()))
        likeness = np.maximum(likeness, (own @ own[order[-1]].T).toarray().ravel())
    return order


def forecast(agreement: JudgeAgreement, drawn: Draw) -> list[IntervalForecast]:
    """Return the intervals of the judge's numbers now and with these labels, if the numbers themselves stay.

    AUC by the variance of Hanley and McNeil (1982), shares by Wilson's interval.
    """
    right, wrong = _labels(agreement)
    more_right, more_wrong = drawn.right, len(drawn.answer_ids) - drawn.right
    found = []
    for name, total, more in (("sensitivity", right, more_right), ("specificity", wrong, more_wrong)):
        now: Estimate | None = getattr(agreement, name)
        if now and total:
            pair = [estimate(now.value, *wilson(now.value * n, n), n) for n in (total, round(total + more))]
            found.append(_pair(name, *pair))
    if agreement.auc and right and wrong:
        pair = [_auc(agreement.auc.value, *labels) for labels in ((right, wrong), (right + more_right, wrong + more_wrong))]
        found.append(_pair("auc", *pair))
    return found


def _labels(agreement: JudgeAgreement) -> tuple[int, int]:
    """Return how many labelled items are right, and how many wrong."""
    (stopped_wrong, stopped_right), (passed_wrong, passed_right) = agreement.counts
    return stopped_right + passed_right, stopped_wrong + passed_wrong


def _auc(area: float, right: float, wrong: float) -> Estimate:
    both_right, both_wrong = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (right - 1) * (both_right - area**2) + (wrong - 1) * (both_wrong - area**2)
    return normal_interval(area, variance / (right * wrong), round(right + wrong), low=0.0, high=1.0)


def _pair(name: str, now: Estimate, then: Estimate) -> IntervalForecast:
    return IntervalForecast(name=name, now=now, then=then)
