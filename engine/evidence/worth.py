"""What each kind of evidence tells alone, and what it is worth beside the others, so that a team sees what a dear one buys."""

from collections.abc import Mapping, Sequence

import numpy as np

from engine.evidence.features import kind_of
from engine.evidence.fusion import ALONE, STRENGTHS, Form, Items, cross_scores, losses
from engine.records.calibration import EvidenceKind
from engine.records.estimate import Estimate
from engine.stats.discrimination import roc_auc
from engine.stats.intervals import Array, mean

Splits = Sequence[tuple[Array, Array]]


def kinds(
    every: Items, reasons: Mapping[str, str], splits: Splits, used: Sequence[str], tokens: Mapping[str, float]
) -> list[EvidenceKind]:
    """Return each kind of evidence, in the order of its numbers.

    `every`: items of which each usable number is known; `reasons`: number -> why it cannot be used, "" if it can; `used`: numbers
    of the model in use; `tokens`: kind -> tokens for an answer.
    """
    by_kind: dict[str, list[str]] = {}
    for name in reasons:
        by_kind.setdefault(kind_of(name), []).append(name)
    good = {kind: [name for name in names if not reasons[name]] for kind, names in by_kind.items()}
    together = _scores(every, [name for names in good.values() for name in names], splits)
    return [
        EvidenceKind(
            name=kind,
            numbers=tuple(good[kind] or names),
            items=len(every.right) if good[kind] else 0,
            auc=_auc(every, _scores(every, good[kind], splits)),
            **_without(every, together, _scores(every, [name for other in good if other != kind for name in good[other]], splits)),
            used=any(name in used for name in names),
            tokens=tokens.get(kind),
            why="; ".join(dict.fromkeys(reasons[name] for name in names if reasons[name])) if not good[kind] else "",
        )
        for kind, names in by_kind.items()
    ]


def _scores(every: Items, names: Sequence[str], splits: Splits) -> Array | None:
    """Return the cross-fitted score by these numbers alone; None without any. One strength: kinds are compared, not tuned."""
    if not names:
        return None
    return cross_scores(every, Form(tuple(names), ALONE if len(names) == 1 else STRENGTHS[1], planted=len(names) > 1), splits)


def _auc(every: Items, scores: Array | None) -> Estimate | None:
    population = every.population
    return None if scores is None else roc_auc(scores[population], every.right[population])


def _without(every: Items, together: Array | None, others: Array | None) -> dict[str, Estimate | None]:
    if together is None or others is None:
        return {"auc_without": None, "worth": None}
    population = every.population
    right, groups = every.right[population], every.groups[population]
    gains = losses(others[population], right) - losses(together[population], right)
    by_group = np.array([gains[groups == group].mean() for group in np.unique(groups)])  # items of a group are not independent
    return {"auc_without": _auc(every, others), "worth": mean(by_group)}
