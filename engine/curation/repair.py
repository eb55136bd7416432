"""Mends failed answers. One per actor: the model loads at the first that is not in the ledger yet, or not at all.

Feedback and refinement after Madaan et al., "Self-Refine" (2023), with the feedback of checks instead of a model's own.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.checks import Seen, canonical, run_checks
from engine.contract.derived import RepairExamples
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.curation.represent import represent, target
from engine.inference.crash_isolation import CrashIsolator
from engine.inference.engine import Chat, Completion, Engine, Request, build_model, instruct
from engine.inference.identity import identity
from engine.inference.ledger import Ledger
from engine.inference.token_budget import TokenBudget, TokenUsage
from engine.rows import EXAMPLE, content_id
from engine.storage.shards import Folder

PAID = pa.schema([("prompt_id", pa.string()), ("ask_id", pa.string()), ("text", pa.string()), ("finish_reason", pa.string())])
PAYEE = "rewrite"
PLACES = re.compile(r"\{(text|answer|fault)\}")

Row = dict[str, Any]  # of boundary.UNSOLVED


@dataclass(frozen=True)
class RepairSpec:
    """All that a rewriter needs, in plain picklable values."""

    section: RepairExamples
    specialist: Specialist
    pool: Pool
    folder: Path | None
    """The model's weights."""
    ledger: Folder
    """Replies that were paid for, perhaps by other runs too."""
    markers: Folder
    """Who is at work, in this run."""
    purse: Folder
    """What this run's teachers were paid."""
    cap: int | None = None
    """Tokens that they may be paid for."""


class Repair:
    """boundary.UNSOLVED in, EXAMPLE out: those that could be mended."""

    def __init__(self, desk: RepairSpec) -> None:
        self.desk = desk
        self.identity = content_id(identity(desk.section.model, desk.folder), desk.section.sampling.model_dump_json())
        self.engine: Engine | None = None
        self.trials = CrashIsolator(desk.markers, hang_seconds=desk.pool.hang_seconds, at_once=desk.pool.max_num_seqs)
        self.ledger = Ledger(desk.ledger, PAID, key="ask_id", place="prompt_id")
        self.purse = TokenBudget(desk.purse, desk.cap)

    def __call__(self, unsolved: pa.Table) -> Iterator[pa.Table]:
        yield EXAMPLE.empty_table()
        rows = sorted(unsolved.to_pylist(), key=lambda row: row["example_id"])
        for start in range(0, len(rows), self.desk.pool.batch):
            batch = rows[start : start + self.desk.pool.batch]
            with self.ledger.block(row["prompt_id"] for row in batch):
                replies = self._replies(batch)
            made = [done for row, reply in zip(batch, replies, strict=True) if (done := self._mended(row, reply))]
            yield pa.Table.from_pylist(made, schema=EXAMPLE)

    def _replies(self, rows: Sequence[Row]) -> list[str]:
        """Return what the model makes of each answer, from the ledger or paid for now; "" if it was not asked, or did not end."""
        ids = [content_id(self.identity, str(self._chat(row)), self._seed(row)) for row in rows]
        known = self.ledger.find(ids).to_pylist()
        open_ = [index for index, one in enumerate(ids) if one not in {paid["ask_id"] for paid in known}]
        if open_ and not self.purse.is_empty():
            asked = [(ids[index], rows[index]) for index in open_]
            self._ready()
            self.trials(
                [one for one, _ in asked],
                lambda batch: known.extend(self._pay([asked[index] for index in batch])),
                lambda index: known.extend(self._record([asked[index]], [Completion("", "error", 0, 0)])),
            )
        said = {paid["ask_id"]: paid["text"] for paid in known if paid["finish_reason"] == "stop"}
        return [said.get(one, "") for one in ids]

    def _ready(self) -> None:
        if self.engine is None:
            section = self.desk.section
            build = partial(build_model, section.model, self.desk.pool, folder=self.desk.folder)
            self.engine = self.trials.load(build, section.model.path)

    def _pay(self, asked: Sequence[tuple[str, Row]]) -> list[Row]:
        assert self.engine is not None
        sampling = self.desk.section.sampling
        self.engine.reset_prefix_cache()
        requests = [Request(self._chat(row), self._seed(row), sampling.temperature, self._schema(row)) for _, row in asked]
        said = self.engine.complete(requests, sampling)
        spent = TokenUsage(len(said), sum(one.tokens_in for one in said), sum(one.tokens_out for one in said))
        self.purse.pay(PAYEE, spent)
        return self._record(asked, said)

    def _record(self, asked: Sequence[tuple[str, Row]], said: Sequence[Completion]) -> list[Row]:
        """Return the replies, once those that were paid for are in the ledger."""
        replies = [
            {"prompt_id": row["prompt_id"], "ask_id": one, "text": reply.text, "finish_reason": reply.finish_reason}
            for (one, row), reply in zip(asked, said, strict=True)
        ]
        kept = [paid for paid, reply in zip(replies, said, strict=True) if not reply.retryable]
        self.ledger.record(pa.Table.from_pylist(kept, schema=PAID))
        return replies

    def _chat(self, row: Row) -> Chat:
        section = self.desk.section
        shown = PLACES.sub(
            lambda place: row[place[1]], section.prompt_template
        )  # in one go: braces in what is filled in stay as they are
        shots = [(shot.input, shot.output) for shot in section.shots]
        return instruct([{"role": "user", "content": shown}], system=section.system, shots=shots)

    def _seed(self, row: Row) -> int:
        return int(content_id(self.desk.section.sampling.seed, row["example_id"])[:8], 16)

    def _schema(self, row: Row) -> dict[str, Any] | None:
        return self.desk.specialist.unit(row["task_unit"]).output.json_schema

    def _mended(self, row: Row, reply: str) -> Row | None:
        """Return the example, or None if the reply is nothing new or fails a check."""
        unit = self.desk.specialist.unit(row["task_unit"])
        if not reply or canonical(reply) == canonical(row["answer"]):
            return None
        found = run_checks(self.desk.section.checks, Seen.of(row | {"answer": reply}, unit))
        if not all(outcome.passed for outcome in found):
            return None
        parts = represent(reply, unit)
        said = {"target": target(parts, unit), **parts._asdict()}
        return {name: row[name] for name in EXAMPLE.names} | said
