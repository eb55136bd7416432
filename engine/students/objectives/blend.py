"""Weights of the objectives for each example: by its kind, then by its confidence tier, else those of the objectives."""

import numpy as np

from engine.contract.objectives import OF_TOKENS, Objectives
from engine.rows import KINDS


def active(objectives: Objectives) -> tuple[str, ...]:
    """Return the objectives over target tokens that have a weight for some examples."""
    return tuple(name for name in objectives.active if name in OF_TOKENS)


def table(objectives: Objectives) -> list[list[float]]:
    """Return the weight of each objective of `active`, one row for each blend: kinds by tiers, first those without an own blend."""
    kinds, tiers = (None, *objectives.by_kind.values()), (None, *objectives.by_tier.values())

    def weight(name: str, kind: object, tier: object) -> float:
        found = (getattr(blend, name, None) for blend in (kind, tier))
        return next((value for value in found if value is not None), objectives.weight(name))

    return [[weight(name, kind, tier) for name in active(objectives)] for kind in kinds for tier in tiers]


def numbers(objectives: Objectives, kinds: np.ndarray, tiers: np.ndarray) -> np.ndarray:
    """Return the row of `table` that holds for each example, int64; `kinds` are indices into KINDS, `tiers` those of tiers."""
    by_kind, by_tier = [KINDS.index(kind) for kind in objectives.by_kind], list(objectives.by_tier)
    kind, tier = (
        ((values[:, None] == np.asarray(keys, np.int64)) * np.arange(1, len(keys) + 1)).sum(axis=1)
        for values, keys in ((kinds, by_kind), (tiers, by_tier))
    )
    return kind * (len(by_tier) + 1) + tier
