"""Samples a student's answers. One per actor; the model is loaded at the first sample that is not in the ledger yet."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from engine.contract.models import Sampling
from engine.contract.on_policy import OnPolicy
from engine.inference.client import CRASHED, Batch, ClientSpec, ModelClient, completed
from engine.inference.engine import Completion, Engine, Request
from engine.rows import Row, content_id
from engine.students.on_policy.schemas import HELD_OUT, PAID, SAMPLE


@dataclass(frozen=True)
class SamplerSpec:
    """Configuration of the samples of one round; plain picklable values."""

    section: OnPolicy
    client: ClientSpec
    seed: int
    """Of the student."""
    round: int
    """From 1. The samples of training prompts have other seeds in each round, those of held-out prompts the same ones."""


class Wanted(NamedTuple):
    """One sample of a question."""

    question: Row
    number: int
    seed: int


class Sampler:
    """QUESTION in, SAMPLE out without rewards: `samples` rows a training prompt and one a held-out prompt, in order."""

    def __init__(self, spec: SamplerSpec) -> None:
        self.spec = spec
        self.client: ModelClient[Wanted] = ModelClient(
            spec.client, PAID, prompt_id=lambda wanted: wanted.question["prompt_id"], crashed=lambda wanted: _paid(wanted, CRASHED)
        )

    def __call__(self, questions: pa.Table) -> pa.Table:
        """Answer a block in batches of questions, which are cut alike in every run and are durable one by one."""
        rows, size = questions.to_pylist(), self.spec.client.pool.batch
        with self.client.block(row["prompt_id"] for row in rows):
            found = [self._batch(rows[start : start + size]) for start in range(0, len(rows), size)]
        return pa.Table.from_pylist([row for batch in found for row in batch], schema=SAMPLE)

    def _batch(self, rows: Sequence[Row]) -> list[Row]:
        requests = {self._id(wanted): wanted for row in rows for wanted in self._wanted(row)}
        paid = self.client.answer(requests, self._complete)
        return [{**wanted.question, **paid[key]} for key, wanted in requests.items()]

    def _wanted(self, row: Row) -> list[Wanted]:
        spec = self.spec
        if row["split"] == HELD_OUT:
            return [Wanted(row, 0, _seed(spec.seed, HELD_OUT, row["prompt_id"]))]
        return [Wanted(row, n, _seed(spec.seed, spec.round, row["prompt_id"], n)) for n in range(spec.section.samples)]

    def _id(self, wanted: Wanted) -> str:
        section, messages = self.spec.section, json.dumps(wanted.question["messages"])
        return content_id(self.client.identity, "sample", messages, wanted.seed, section.temperature, section.max_tokens)

    def _complete(self, engine: Engine, wanted: Sequence[Wanted]) -> Batch:
        section = self.spec.section
        requests = [Request(each.question["messages"], each.seed, section.temperature) for each in wanted]
        completions = engine.complete(requests, Sampling(temperature=section.temperature, max_tokens=section.max_tokens))
        return completed(completions, [_paid(*pair) for pair in zip(wanted, completions, strict=True)])


def _paid(wanted: Wanted, completion: Completion) -> Row:
    return {
        "sample": wanted.number,
        "answer": completion.text,
        "finish_reason": completion.finish_reason,
        "ids": list(completion.token_ids),
        "logprob": completion.logprob,
        "error": completion.error,
    }


def _seed(*parts: object) -> int:
    return int(content_id(*parts)[:8], 16)
