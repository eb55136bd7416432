"""Who answers which prompt: the first rule of the contract that fits decides, and its decision is a column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.profile import Pool
from engine.contract.routes import Nearest, Route
from engine.inference.sentence_encoder import SentenceEncoder
from engine.rows import ANSWER, PROMPT, content_id, from_rows, grow

NOBODY = "none"
"""The route of a prompt that no rule fits."""
CARRIED = grow(ANSWER, ("to", pa.list_(pa.string())))
"""What is carried from teacher to teacher: a prompt without answer, with those who shall answer it; or a finished answer."""
UNROUTED = {
    "route": NOBODY, "teacher": "", "sample": 0, "seed": 0, "reasoning": "", "answer": "", "finish_reason": "unrouted", "tokens_in": 0,
    "tokens_out": 0, "seconds": 0.0, "trajectory": [], "error": "no rule of teachers.routes fits it",
    "to": [],
}  # fmt: skip


class Choice(NamedTuple):
    """Which rule decided, and for which teachers."""

    route: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class Routing:
    """All that a router needs, in plain picklable values."""

    routes: Sequence[Route]
    pool: Pool = field(default_factory=Pool)
    """Where prompts are embedded, if a rule asks for it."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """Embedding model, as the contract names it -> its weights."""

    @property
    def embeds(self) -> bool:
        """Whether a model is needed."""
        return any(route.nearest for route in self.routes)


class Router:
    """PROMPT in, CARRIED out: a prompt that no rule fits is a finished answer already, by nobody."""

    def __init__(self, routing: Routing) -> None:
        device = "cuda" if routing.pool.gpus else "cpu"
        models = {name: SentenceEncoder(folder, device) for name, folder in routing.folders.items()}
        self.rules = [
            _Labelled(route.nearest, choices, models[route.nearest.model]) if route.nearest else _Conditions(route, choices)
            for number, route in enumerate(routing.routes)
            for choices in [_choices(number, route)]
        ]

    def __call__(self, prompts: pa.Table) -> pa.Table:
        rows = prompts.select(PROMPT.names).to_pylist()
        chosen: list[Choice | None] = [None] * len(rows)
        for rule in self.rules:
            left = [index for index, choice in enumerate(chosen) if choice is None]
            for index, choice in zip(left, rule([rows[index] for index in left]), strict=True):
                chosen[index] = choice
        return _carried(rows, chosen)


class _Conditions:
    """The columns of a prompt decide."""

    def __init__(self, route: Route, choices: Sequence[Choice]) -> None:
        self.conditions = route.when.conditions if route.when else {}
        [self.choice] = choices

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Choice | None]:
        return [self.choice if all(row[name] in may for name, may in self.conditions.items()) else None for row in rows]


class _Labelled:
    """The labelled prompt decides whose embedding is nearest; of equally near ones the first."""

    def __init__(self, section: Nearest, choices: Sequence[Choice], embed: SentenceEncoder) -> None:
        self.embed, self.least, self.choices = embed, section.least, choices
        self.bank = embed([one.input for one in section.bank])  # (labelled, dimensions)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Choice | None]:
        if not rows:
            return []
        closeness = self.embed([row["text"] for row in rows]) @ self.bank.T  # (rows, labelled)
        nearest = np.argmax(closeness, axis=1)
        return [
            self.choices[int(best)] if near[best] >= self.least else None for best, near in zip(nearest, closeness, strict=True)
        ]


def ask_all(prompts: pa.Table, to: Sequence[str]) -> pa.Table:
    """PROMPT in, CARRIED out: every teacher in `to` is asked."""
    rows = prompts.select(PROMPT.names).to_pylist()
    return _carried(rows, [Choice("", tuple(to))] * len(rows))


def answered(carried: pa.Table) -> pa.Table:
    """CARRIED in, ANSWER out: prompts that every teacher has seen go, their answers stay."""
    return carried.filter(carried["answer_id"].is_valid()).select(ANSWER.names)


def reached(routes: Sequence[Route]) -> dict[str, tuple[str, ...]]:
    """Return every decision that `routes` can make, as the column `route` has it, with the teachers it leads to."""
    return {choice.route: choice.to for number, route in enumerate(routes) for choice in _choices(number, route)}


def _choices(number: int, route: Route) -> list[Choice]:
    """The decisions that a rule can make, one a labelled prompt, or the one of its conditions."""
    if route.nearest:
        return [Choice(f"{number}: nearest {place}", one.to) for place, one in enumerate(route.nearest.bank)]
    conditions = route.when.conditions if route.when else {}
    said = ", ".join(f"{name}={'|'.join(may)}" for name, may in conditions.items())
    return [Choice(f"{number}: {said or 'otherwise'}", route.to)]


def _carried(rows: Sequence[dict[str, Any]], chosen: Sequence[Choice | None]) -> pa.Table:
    return from_rows(
        (
            row | UNROUTED | {"answer_id": content_id(row["prompt_id"], NOBODY)} if choice is None else row | choice._asdict()
            for row, choice in zip(rows, chosen, strict=True)
        ),
        CARRIED,
    )
