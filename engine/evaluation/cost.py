"""How fast, and what a thousand right results cost when the teacher stands behind the model."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from engine.contract.budget import HOUR, MILLION, Price
from engine.stats.bootstrap import Array


class Served(NamedTuple):
    """One model at work on the holdout."""

    right: Array  # (n,) 1 = right
    sound: Array  # (n,) 1 = ended well; anything else is seen to be no answer
    confidence: Array  # (n,) nan where the model gives none: then it always answers
    seconds: float | None  # machine seconds of one request served alone, mean; None if it was not timed
    tokens: Array  # (n, 2) in and out


def price_of(served: Served, price: Price, *, teacher: str | None) -> Array | None:
    """Return the price of each answer, (n,): machine seconds, and the tokens of the `teacher` if it is one. None if untimed."""
    if served.seconds is None:
        return None
    machine = np.full(len(served.right), served.seconds / HOUR * price.per_machine_hour)
    if teacher is None:
        return machine
    asked = price.of(teacher)
    return machine + served.tokens @ np.array([asked.per_1m_in, asked.per_1m_out]) / MILLION


def cost(
    served: Served, price: Array | None, teacher: Served, teacher_price: Array | None, *, answer_above: float
) -> dict[str, Any]:
    """Return the cost per 1,000 accepted (right) results, and who answered.

    A request falls back to the teacher when the model's confidence is below `answer_above` or its answer did not end well; it
    then costs both. `price` and `teacher_price` are (n,) as `price_of` returns them. With nothing right the cost is None.
    """
    unsure = np.nan_to_num(served.confidence, nan=np.inf) < answer_above
    back = unsure | (served.sound == 0)
    accepted = np.where(back, teacher.right, served.right)
    paid = None if price is None or teacher_price is None else float((price + back * teacher_price).sum())
    return {
        "per_1000_accepted": _per_1000(paid, float(accepted.sum())),
        "answered_share": round(float(1 - back.mean()), 6),
        "fallback_share": round(float(back.mean()), 6),
        "accepted_share": round(float(accepted.mean()), 6),
    }


def cost_alone(served: Served, price: Array | None) -> dict[str, Any]:
    """The same for the teacher, who has nobody to fall back to."""
    paid = None if price is None else float(price.sum())
    accepted = float(served.right.mean())
    return {
        "per_1000_accepted": _per_1000(paid, float(served.right.sum())),
        "answered_share": 1.0,
        "fallback_share": 0.0,
        "accepted_share": round(accepted, 6),
    }


def latency(seconds: Collection[float]) -> dict[str, Any] | None:
    """Return median and 95th percentile, in milliseconds, of prompts that were alone in the engine; None if none was timed."""
    if not seconds:
        return None
    p50, p95 = np.percentile(list(seconds), [50, 95]) * 1000
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3), "n": len(seconds)}


def _per_1000(paid: float | None, accepted: float) -> float | None:
    return None if paid is None or not accepted else round(1000 * paid / accepted, 6)
