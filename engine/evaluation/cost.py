"""Latency, and the cost of 1,000 right answers when the teacher answers what the model is not confident about."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.budget import HOUR, MILLION, Price
from engine.records.estimate import Estimate
from engine.records.report import Cost, Latency
from engine.stats.bootstrap import Array
from engine.stats.quantile import quantile


class Served(NamedTuple):
    """One model's answers to the n holdout prompts."""

    right: Array  # (n,) 1 = right
    sound: Array  # (n,) 1 = finished with `stop`; any other answer is visibly incomplete
    confidence: Array  # (n,) nan where the model gives none; such an answer never falls back
    seconds: float | None  # mean machine seconds of one request served alone, 0 behind an endpoint; None if untimed
    tokens: Array  # (n, 2) in and out


def served(predictions: pa.Table, *, is_remote: bool) -> Served:
    """Return the answers in PREDICTION rows. The machine behind an endpoint is another's: only its tokens have a price."""
    rows = predictions.select(["exact", "finish_reason", "confidence", "seconds", "tokens_in", "tokens_out"]).to_pydict()
    seconds = [0.0] if is_remote else [each for each in rows["seconds"] if each is not None and not np.isnan(each)]
    return Served(
        right=np.array(rows["exact"], dtype=np.float64),
        sound=np.array([finish_reason == "stop" for finish_reason in rows["finish_reason"]], dtype=np.float64),
        confidence=np.array([np.nan if value is None else value for value in rows["confidence"]], dtype=np.float64),
        seconds=float(np.mean(seconds)) if seconds else None,
        tokens=np.column_stack([rows["tokens_in"], rows["tokens_out"]]).astype(np.float64),
    )


def price_of(served: Served, price: Price, *, teacher: str | None) -> Array | None:
    """Return the price of each answer, (n,): machine time, plus tokens if the model is the teacher named `teacher`.

    Returns None if the model was not timed.
    """
    if served.seconds is None:
        return None
    machine = np.full(len(served.right), served.seconds / HOUR * price.per_machine_hour)
    if teacher is None:
        return machine
    token_price = price.of(teacher)
    return machine + served.tokens @ np.array([token_price.per_1m_in, token_price.per_1m_out]) / MILLION


class Spent(NamedTuple):
    """What each of n requests costs when the teacher answers what the model is not sure of."""

    total: Array | None  # (n,) price with the fallback's; None if a price is unknown
    accepted: Array  # (n,) 1 = answered right, by either
    fallback: Array  # (n,) 1 = the teacher answers


def spent(served: Served, price: Array | None, teacher: Served, teacher_price: Array | None, *, answer_above: float) -> Spent:
    """Return price and outcome of each request.

    A request falls back when the confidence is below `answer_above` or the answer did not finish; it then costs both prices.
    `price` and `teacher_price` are (n,) as returned by `price_of`.
    """
    fallback = falls_back(served.confidence, served.sound, answer_above)
    total = None if price is None or teacher_price is None else price + fallback * teacher_price
    return Spent(total, np.where(fallback, teacher.right, served.right), fallback.astype(np.float64))


def with_corrections(requests: Spent, per_correction: float) -> Spent:
    """Return `requests` with the price of correcting each answer that was not right."""
    if requests.total is None:
        return requests
    return requests._replace(total=requests.total + per_correction * (1 - requests.accepted))


def cost(requests: Spent) -> Cost:
    """Return the cost per 1,000 accepted (right) answers with fallback to the teacher; None when nothing is right or a price is."""
    total = None if requests.total is None else float(requests.total.sum())
    return Cost(
        per_1000_accepted=_per_1000(total, float(requests.accepted.sum())),
        answered_share=round(float(1 - requests.fallback.mean()), 6),
        fallback_share=round(float(requests.fallback.mean()), 6),
        accepted_share=round(float(requests.accepted.mean()), 6),
    )


def falls_back(confidence: Array, sound: Array, answer_above: float) -> Array:
    """Return the mask (n,) of requests that a model leaves to the teacher; see `Served` for its columns."""
    return (np.nan_to_num(confidence, nan=np.inf) < answer_above) | (sound == 0)


def cost_alone(served: Served, price: Array | None, per_correction: float = 0.0) -> Cost:
    """Return the cost of a model without fallback, such as the teacher; each wrong answer costs `per_correction` more."""
    total = None if price is None else float((price + per_correction * (1 - served.right)).sum())
    return Cost(per_1000_accepted=_per_1000(total, float(served.right.sum())), accepted_share=round(float(served.right.mean()), 6))


def latency(seconds: Collection[float], *, level: float = 0.95) -> Latency | None:
    """Return median and 95th percentile of `seconds` in milliseconds, the latter with an interval; None if nothing was timed."""
    if not seconds:
        return None
    milliseconds = np.array(list(seconds), dtype=np.float64) * 1000
    p50, p95 = np.percentile(milliseconds, [50, 95])
    found = Latency(p50_ms=round(float(p50), 3), p95_ms=round(float(p95), 3), n=len(seconds))
    test = quantile(milliseconds, 0.95, limit=float(p95), level=(1 - level) / 2)
    if test is None:
        return found
    interval = Estimate(value=found.p95_ms, low=round(min(test.low, p95), 3), high=round(max(test.high, p95), 3), n=found.n)
    return found.model_copy(update={"p95": interval, "method": test.method})


def _per_1000(total: float | None, accepted: float) -> float | None:
    return None if total is None or not accepted else round(1000 * total / accepted, 6)
