"""Weights of the objectives for each example: by its kind, then by its confidence tier, else those of the objectives."""

from engine.contract.objectives import OF_TOKENS, Objectives
from engine.rows import Row

COLUMNS = ("kind", "confidence_tier")


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


def number(objectives: Objectives, example: Row) -> int:
    """Return the row of `table` that holds for `example` (COLUMNS of EXAMPLE)."""
    kinds, tiers = list(objectives.by_kind), list(objectives.by_tier)
    kind = kinds.index(example["kind"]) + 1 if example["kind"] in kinds else 0
    tier = tiers.index(example["confidence_tier"]) + 1 if example["confidence_tier"] in tiers else 0
    return kind * (len(tiers) + 1) + tier
