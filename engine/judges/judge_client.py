"""Probabilities of choices, from a judge's model. The cache key is the full prompt with its choices.

Only a changed prompt is asked again, whatever its rubric is called: scores, comparisons and the questions of the audit share the
ledger.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import pyarrow as pa

from engine.inference.client import ClientSpec, ModelClient, measured
from engine.inference.engine import Chat
from engine.rows import Row, content_id

PAID = pa.schema([("prompt_id", pa.string()), ("question_id", pa.string()), ("shares", pa.list_(pa.float32()))])


class ChoiceRequest(NamedTuple):
    """A prompt for the judge, and the tokens it chooses from."""

    prompt_id: str  # of the prompt whose answer is judged; partitions the ledger
    chat: Chat
    choices: tuple[str, ...]


class ChoiceProbs(NamedTuple):
    """The judge's answer."""

    probs: list[float] | None  # of each choice, summing to 1; None if unreadable, or not asked
    budget_exhausted: bool = False  # not asked, because the budget was spent


class JudgeClient:
    """One model of a judge."""

    def __init__(self, spec: ClientSpec) -> None:
        self.client: ModelClient[ChoiceRequest] = ModelClient(
            spec, PAID, prompt_id=attrgetter("prompt_id"), crashed=lambda request: {"shares": None}
        )

    def __call__(self, requests: Sequence[ChoiceRequest], *, payee: str, capped: bool = True) -> list[ChoiceProbs]:
        """Return the probabilities for each request, in order. Token usage is noted for `payee`; `capped` obeys the budget."""
        keys = [content_id(self.client.identity, json.dumps(request.chat), *request.choices) for request in requests]
        groups: dict[tuple[str, ...], dict[str, ChoiceRequest]] = defaultdict(dict)
        for key, request in zip(keys, requests, strict=True):
            groups[request.choices][key] = request
        rows: dict[str, Row] = {}
        call = measured(lambda engine, group: engine.choice_probs([request.chat for request in group], group[0].choices), "shares")
        with self.client.block(request.prompt_id for request in requests):
            for group in groups.values():
                rows |= self.client.answer(group, call, batch=self.client.spec.pool.batch, payee=payee, capped=capped)
        return [ChoiceProbs(rows[key]["shares"]) if key in rows else ChoiceProbs(None, budget_exhausted=True) for key in keys]
