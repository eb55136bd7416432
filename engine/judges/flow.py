"""Room 3's door to Ray."""

from ray.data import Dataset

from engine.contract.profile import Pool
from engine.fleet import stream
from engine.judges.grader import Bar, Grader
from engine.judges.signals import Gauge, Measurer


def grade(answers: Dataset, bar: Bar) -> Dataset:
    """ANSWER in, CANDIDATE out, at work while the teachers are."""
    return stream.apply(answers, Grader, bar.pool, bar=bar)


def measure(candidates: Dataset, gauge: Gauge, pool: Pool) -> Dataset:
    """CANDIDATE in, CANDIDATE with the signals that the contract asks for out."""
    return stream.apply(candidates, Measurer, pool, gauge=gauge)
