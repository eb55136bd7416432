"""Optuna's sampler (TPE: Watanabe, 2023, arXiv 2304.11127) for Ray Tune; it knows earlier trials and proposes no point twice."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import JsonValue
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from engine.contract.search import Choices, Search

ATTEMPTS = 100  # proposals in a row that were there before, after which the space counts as used up
Point = Mapping[str, str | float | int]
"""Key -> value as the sampler has it: a choice is its JSON, as Optuna takes no lists."""


class Sampler(OptunaSearch):
    """`ended`: points of earlier trials with their scores, None for a failed one; `first`: points that are proposed at first."""

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        seed: int,
        ended: Sequence[tuple[Point, float | None]],
        first: Sequence[Point],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        super().__init__(dict(space), metric="score", mode="max", seed=seed, points_to_evaluate=[dict(point) for point in first])
        self.asked: dict[str, str] = {}
        self.seen = {_canonical(point) for point, _ in ended}
        self.size = math.prod(map(_size, space.values()))
        for point, score in ended:
            self.add_evaluated_point(dict(point), score, error=score is None)  # pyright: ignore[reportArgumentType]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a new point; `FINISHED` if there is none left."""
        for attempt in range(ATTEMPTS):
            if len(self.seen) >= self.size:
                break
            asked = f"{trial_id}.{attempt}"
            point = super().suggest(asked)
            if not isinstance(point, dict):
                return point
            if (canonical := _canonical(point)) not in self.seen:
                self.seen.add(canonical)
                self.asked[trial_id] = asked
                return point
            super().on_trial_complete(asked, error=True)
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna of a validation."""
        super().on_trial_result(self.asked[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna of the end of a trial."""
        super().on_trial_complete(self.asked.get(trial_id, trial_id), result, error or result is None)


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """Return the space of a search for Optuna."""
    space: dict[str, BaseDistribution] = {}
    for key, domain in search.keys.items():
        if isinstance(domain, Choices):
            space[key] = CategoricalDistribution([json.dumps(value, sort_keys=True) for value in domain.choices])
        elif domain.integer:
            space[key] = IntDistribution(int(domain.low), int(domain.high), log=domain.scale == "log")
        else:
            space[key] = FloatDistribution(domain.low, domain.high, log=domain.scale == "log")
    return space


def encoded(search: Search, values: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Return the point of `values`, with its keys in the order of the search."""
    return {
        key: json.dumps(values[key], sort_keys=True) if isinstance(domain, Choices) else values[key]
        for key, domain in search.keys.items()
    }


def decoded(search: Search, point: Point) -> dict[str, JsonValue]:
    """Return the values of a point."""
    return {key: json.loads(str(point[key])) if isinstance(domain, Choices) else point[key] for key, domain in search.keys.items()}


def _canonical(point: Point) -> str:
    return json.dumps(dict(point), sort_keys=True)


def _size(distribution: BaseDistribution) -> float:
    """Return the number of values of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    return distribution.high - distribution.low + 1 if isinstance(distribution, IntDistribution) else math.inf
