"""Repairs failed answers with a model. One per actor; the model is loaded at the first answer that is not in the ledger yet.

Feedback and refinement after Madaan et al., "Self-Refine" (2023); the feedback comes from checks instead of the model itself.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.checks import CheckInput, canonical, run_checks
from engine.contract.derived import RepairExamples
from engine.contract.renames import older_json
from engine.contract.specialist import Specialist
from engine.curation.represent import represent, target
from engine.inference.client import CRASHED, Batch, ClientSpec, ModelClient, completed
from engine.inference.decodable import decoding_identity
from engine.inference.engine import Chat, Completion, Engine, Request, instruct
from engine.rows import EXAMPLE, Row, content_id

PAID = pa.schema([("prompt_id", pa.string()), ("ask_id", pa.string()), ("text", pa.string()), ("finish_reason", pa.string())])
PLACEHOLDERS = re.compile(r"\{(text|answer|fault)\}")


@dataclass(frozen=True)
class RepairSpec:
    """Configuration of a repair; plain picklable values."""

    section: RepairExamples
    specialist: Specialist
    client: ClientSpec


class Repair:
    """contrastive.UNSOLVED in, EXAMPLE out: the answers that could be repaired."""

    def __init__(self, spec: RepairSpec) -> None:
        self.spec = spec
        self.client: ModelClient[Row] = ModelClient(
            spec.client, PAID, prompt_id=lambda row: row["prompt_id"], crashed=lambda row: _paid(CRASHED)
        )
        sampling = older_json(spec.section.sampling, "curation.boundary.*.sampling")
        self.identity = content_id(self.client.identity, sampling)

    def __call__(self, unsolved: pa.Table) -> Iterator[pa.Table]:
        yield EXAMPLE.empty_table()
        rows, size = sorted(unsolved.to_pylist(), key=lambda row: row["example_id"]), self.spec.client.pool.batch
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            examples = [self._example(row, reply) for row, reply in zip(batch, self._replies(batch), strict=True)]
            yield pa.Table.from_pylist([example for example in examples if example], schema=EXAMPLE)

    def _replies(self, rows: Sequence[Row]) -> list[str]:
        """Return the model's reply to each answer; "" if the budget did not reach it, or if the reply did not end by itself."""
        keys = [content_id(self.identity, str(self._chat(row)), self._seed(row), *self._decoding(row)) for row in rows]
        with self.client.block(row["prompt_id"] for row in rows):
            paid = self.client.answer(dict(zip(keys, rows, strict=True)), self._complete)
        return [paid[key]["text"] if key in paid and paid[key]["finish_reason"] == "stop" else "" for key in keys]

    def _complete(self, engine: Engine, rows: Sequence[Row]) -> Batch:
        sampling, units = self.spec.section.sampling, [self.spec.specialist.unit(row["task_unit"]) for row in rows]
        requests = [
            Request(self._chat(row), self._seed(row), sampling.temperature, unit.output.json_schema)
            for row, unit in zip(rows, units, strict=True)
        ]
        completions = engine.complete(requests, sampling)
        return completed(completions, [_paid(completion) for completion in completions])

    def _chat(self, row: Row) -> Chat:
        section = self.spec.section
        # One pass: braces in the values stay as they are.
        turn = PLACEHOLDERS.sub(lambda name: row[name[1]], section.prompt_template)
        shots = [(shot.input, shot.output) for shot in section.shots]
        return instruct([{"role": "user", "content": turn}], system=section.system, shots=shots)

    def _decoding(self, row: Row) -> list[str]:
        return decoding_identity(self.spec.section.model, self.spec.specialist.unit(row["task_unit"]).output.json_schema)

    def _seed(self, row: Row) -> int:
        return int(content_id(self.spec.section.sampling.seed, row["example_id"])[:8], 16)

    def _example(self, row: Row, reply: str) -> Row | None:
        """Return the example, or None if the reply changes nothing or fails a check."""
        unit = self.spec.specialist.unit(row["task_unit"])
        if not reply or canonical(reply) == canonical(row["answer"]):
            return None
        outcomes = run_checks(self.spec.section.checks, CheckInput.of(row | {"answer": reply}, unit))
        if not all(outcome.passed for outcome in outcomes):
            return None
        parts = represent(reply, unit)
        return {name: row[name] for name in EXAMPLE.names} | {"target": target(parts, unit), **parts._asdict()}


def _paid(completion: Completion) -> Row:
    return {"text": completion.text, "finish_reason": completion.finish_reason}
