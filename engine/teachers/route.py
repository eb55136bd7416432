"""Routes prompts to teachers: the first rule of the contract that matches decides; its decision is the column `route`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.profile import Pool
from engine.contract.routes import Nearest, Route
from engine.inference.sentence_encoder import SentenceEncoder
from engine.inference.weights import Weights
from engine.rows import ANSWER, PROMPT, Row, content_id, from_rows, grow

UNMATCHED = "none"
"""Route of a prompt that no rule matches."""
ROUTED = grow(ANSWER, ("to", pa.list_(pa.string())))
"""Rows between teachers: a prompt without answer, with the teachers that must answer it in `to`; or a finished answer."""
UNROUTED = {
    "route": UNMATCHED, "teacher": "", "sample": 0, "seed": 0, "reasoning": "", "answer": "", "finish_reason": "unrouted",
    "tokens_in": 0, "tokens_out": 0, "seconds": 0.0, "trajectory": [], "error": "no rule of teachers.routes fits it",
    "to": [],
}  # fmt: skip


class Decision(NamedTuple):
    """The rule that matched, and its teachers."""

    route: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class Routing:
    """Configuration of a router; plain picklable values."""

    routes: Sequence[Route]
    pool: Pool = field(default_factory=Pool)
    """Actors that embed prompts, if a rule needs embeddings."""
    folders: Mapping[str, Weights] = field(default_factory=dict)
    """Embedding model, as the contract names it -> where its files lie."""

    @property
    def embeds(self) -> bool:
        """Whether a rule needs an embedding model."""
        return any(route.nearest for route in self.routes)


class Router:
    """PROMPT in, ROUTED out. Unmatched prompts become `unrouted` answers with no teacher."""

    def __init__(self, routing: Routing) -> None:
        device = "cuda" if routing.pool.gpus else "cpu"
        models = {name: SentenceEncoder(folder, device) for name, folder in routing.folders.items()}
        self.rules = [
            _Nearest(route.nearest, decisions, models[route.nearest.model]) if route.nearest else _Conditions(route, decisions)
            for number, route in enumerate(routing.routes)
            for decisions in [_decisions(number, route)]
        ]

    def __call__(self, prompts: pa.Table) -> pa.Table:
        rows = prompts.select(PROMPT.names).to_pylist()
        decisions: list[Decision | None] = [None] * len(rows)
        for rule in self.rules:
            left = [index for index, decision in enumerate(decisions) if decision is None]
            for index, decision in zip(left, rule([rows[index] for index in left]), strict=True):
                decisions[index] = decision
        return _routed(rows, decisions)


class _Conditions:
    """Matches prompts by the values of their columns."""

    def __init__(self, route: Route, decisions: Sequence[Decision]) -> None:
        self.conditions = route.when.conditions if route.when else {}
        [self.decision] = decisions

    def __call__(self, rows: Sequence[Row]) -> list[Decision | None]:
        return [self.decision if all(row[name] in allowed for name, allowed in self.conditions.items()) else None for row in rows]


class _Nearest:
    """Matches prompts to the labelled prompt with the nearest embedding; of equally near ones the first."""

    def __init__(self, section: Nearest, decisions: Sequence[Decision], embed: SentenceEncoder) -> None:
        self.embed, self.min_cosine, self.decisions = embed, section.min_cosine, decisions
        self.bank = embed([labelled.input for labelled in section.bank])  # (labelled, dimensions)

    def __call__(self, rows: Sequence[Row]) -> list[Decision | None]:
        if not rows:
            return []
        cosines = self.embed([row["text"] for row in rows]) @ self.bank.T  # (rows, labelled)
        return [
            self.decisions[best] if cosine[best] >= self.min_cosine else None
            for best, cosine in zip(np.argmax(cosines, axis=1).tolist(), cosines, strict=True)
        ]


def route_to_all(prompts: pa.Table, to: Sequence[str]) -> pa.Table:
    """PROMPT in, ROUTED out: every prompt is routed to all teachers in `to`."""
    rows = prompts.select(PROMPT.names).to_pylist()
    return _routed(rows, [Decision("", tuple(to))] * len(rows))


def answered(routed: pa.Table) -> pa.Table:
    """ROUTED in, ANSWER out: drops the prompts and keeps the answers."""
    return routed.filter(routed["answer_id"].is_valid()).select(ANSWER.names)


def reached(routes: Sequence[Route]) -> dict[str, tuple[str, ...]]:
    """Return every value that the column `route` can have, with the teachers of that decision."""
    return {decision.route: decision.to for number, route in enumerate(routes) for decision in _decisions(number, route)}


def _decisions(number: int, route: Route) -> list[Decision]:
    """Return the decisions of a rule: one for each labelled prompt, or one for its conditions."""
    if route.nearest:
        return [Decision(f"{number}: nearest {index}", labelled.to) for index, labelled in enumerate(route.nearest.bank)]
    conditions = route.when.conditions if route.when else {}
    text = ", ".join(f"{name}={'|'.join(allowed)}" for name, allowed in conditions.items())
    return [Decision(f"{number}: {text or 'otherwise'}", route.to)]


def _routed(rows: Sequence[Row], decisions: Sequence[Decision | None]) -> pa.Table:
    return from_rows(
        (
            row | UNROUTED | {"answer_id": content_id(row["prompt_id"], UNMATCHED)}
            if decision is None
            else row | decision._asdict()
            for row, decision in zip(rows, decisions, strict=True)
        ),
        ROUTED,
    )
