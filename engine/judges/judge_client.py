"""Probabilities of choices, from a judge's model. The cache key is the full prompt with its choices.

Only a changed prompt is asked again, whatever its rubric is called: scores, comparisons and the questions of the audit share the
ledger.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa

from engine.errors import ModelError
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
    lost: bool = False  # asked without an answer, which another run may get


class JudgeClient:
    """One model of a judge."""

    def __init__(self, spec: ClientSpec) -> None:
        self.client: ModelClient[ChoiceRequest] = ModelClient(
            spec, PAID, prompt_id=attrgetter("prompt_id"), crashed=lambda request: {"shares": None}
        )

    def __call__(self, requests: Sequence[ChoiceRequest], *, payee: str, capped: bool = True) -> list[ChoiceProbs]:
        """Return the probabilities for each request, in order. Token usage is noted for `payee`; `capped` obeys the budget.

        Raises:
            ModelError: a question was not answered, and `capped` is false, as it is for labelled items; see `require_all`.
        """
        keys = [content_id(self.client.identity, json.dumps(request.chat), *request.choices) for request in requests]
        groups: dict[tuple[str, ...], dict[str, ChoiceRequest]] = defaultdict(dict)
        for key, request in zip(keys, requests, strict=True):
            groups[request.choices][key] = request
        rows, lost = dict[str, Row](), set[str]()
        call = measured(lambda engine, group: engine.choice_probs([request.chat for request in group], group[0].choices), "shares")
        with self.client.block(request.prompt_id for request in requests):
            for group in groups.values():
                rows |= self.client.answer(group, call, batch=self.client.spec.pool.batch, payee=payee, capped=capped)
                lost |= self.client.lost
        if not capped:
            require_all(self.client, {key: requests[keys.index(key)].chat[-1]["content"] for key in lost}, payee)
        return [
            ChoiceProbs(rows[key]["shares"], lost=key in lost) if key in rows else ChoiceProbs(None, budget_exhausted=True)
            for key in keys
        ]


def require_all(client: ModelClient[Any], lost: Mapping[str, str], who: str) -> None:
    """Check that each question about labelled items was answered: a calibration without some of them would be kept for good.

    `lost` holds the text of each that was not, by its key.

    Raises:
        ModelError: one was not.
    """
    if lost:
        text = next(iter(lost.values()))
        raise ModelError(
            f"judges.calibrate.gold: {who} ({client.spec.model.path}) did not answer {len(lost)} questions about labelled items. "
            f"One ends with {text[-80:]!r}. What it answered is kept: see that its server is up, and run again. If the same item "
            "is refused each time, take it out."
        )
