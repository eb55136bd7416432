"""Answers prompts. One per actor: the model loads at the first prompt whose answer is not in the ledger yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher as TeacherSection
from engine.lineage.ledger import Ledger
from engine.models.base import Completion, Engine, Request, build_model, instruct
from engine.models.identity import identity
from engine.models.shots import ShotBook
from engine.models.spans import decoding_schema
from engine.models.trials import MARKS, Trials
from engine.rows import ANSWER, PROMPT, content_id
from engine.shards import Folder

PAID = pa.schema([ANSWER.field("prompt_id"), *(field for field in ANSWER if field.name not in PROMPT.names)])
"""What the ledger keeps of an answer: all that its prompt does not say already."""


KILLED = Completion("", "error", 0, 0, error="killed its engine, alone and in every batch that it was part of")


@dataclass(frozen=True)
class Desk:
    """All that a teacher needs, in plain picklable values."""

    section: TeacherSection
    specialist: Specialist
    pool: Pool
    folder: Path | None
    """The model's weights."""
    ledger: Folder
    num_prompts: int


class Asked(NamedTuple):
    """One answer that is wanted."""

    row: int
    sample: int
    seed: int
    answer_id: str


class Teacher:
    """PROMPT in, ANSWER out: `sampling.n` rows a prompt, in order of prompt and sample."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.identity = identity(desk.section.model, desk.folder)
        self.engine: Engine | None = None
        self.shots = ShotBook(desk.section.shots)
        expected = desk.num_prompts * desk.section.sampling.n
        self.trials = Trials(desk.ledger / MARKS, hang_seconds=desk.pool.hang_seconds)
        self.ledger = Ledger(desk.ledger, PAID, key="answer_id", bucket_by="prompt_id", expected_rows=expected)

    def __call__(self, prompts: pa.Table) -> pa.Table:
        rows = prompts.select(PROMPT.names).to_pylist()
        asked = [wanted for index, row in enumerate(rows) for wanted in self._wanted(index, row)]
        paid = self._paid(rows, asked)
        open_ = [wanted for wanted in asked if wanted.answer_id not in paid]
        if open_ and self.engine is None:
            build = partial(build_model, self.desk.section.model, self.desk.pool, folder=self.desk.folder)
            self.engine = self.trials.load(build, self.desk.section.model.path)

        def ask(batch: Sequence[int]) -> None:
            paid.update(self._pay(rows, [open_[index] for index in batch]))

        def give_up(index: int) -> None:
            paid.update(self._record(rows, [open_[index]], [KILLED]))

        self.trials([wanted.answer_id for wanted in open_], ask, give_up)
        return pa.Table.from_pylist([rows[w.row] | paid[w.answer_id] for w in asked], schema=ANSWER)

    def _wanted(self, index: int, row: dict[str, Any]) -> list[Asked]:
        """One entry a sample. The id holds all that the answer depends on: ask differently and it is another answer."""
        section = self.desk.section
        sampling = section.sampling
        told = section.model_dump_json(include={"system", "shots", "structured"})
        output = self.desk.specialist.unit(row["task_unit"]).output
        manner = content_id(self.identity, told, output.model_dump_json(), sampling.model_dump_json(exclude={"n"}))
        wanted = []
        for sample in range(sampling.n):
            seed = int(content_id(sampling.seed, row["prompt_id"], sample)[:8], 16)
            wanted.append(Asked(index, sample, seed, content_id(row["prompt_id"], section.name, manner, seed, sample)))
        return wanted

    def _paid(self, rows: Sequence[dict[str, Any]], asked: Sequence[Asked]) -> dict[str, dict[str, Any]]:
        found = self.ledger.find([w.answer_id for w in asked], [row["prompt_id"] for row in rows])
        return {answer["answer_id"]: answer for answer in found.to_pylist()}

    def _pay(self, rows: Sequence[dict[str, Any]], asked: Sequence[Asked]) -> dict[str, dict[str, Any]]:
        assert self.engine is not None
        self.engine.forget()
        requests = [self._request(rows[w.row], w) for w in asked]
        return self._record(rows, asked, self.engine.complete(requests, self.desk.section.sampling))

    def _record(
        self, rows: Sequence[dict[str, Any]], asked: Sequence[Asked], said: Sequence[Completion]
    ) -> dict[str, dict[str, Any]]:
        """Return the answers by their id, once those that were paid for are in the ledger."""
        fresh = [self._answer(rows[w.row], w, completion) for w, completion in zip(asked, said, strict=True)]
        kept = [answer for answer, completion in zip(fresh, said, strict=True) if not completion.is_lost]
        self.ledger.record(pa.Table.from_pylist(kept, schema=PAID))
        return {answer["answer_id"]: answer for answer in fresh}

    def _request(self, row: dict[str, Any], wanted: Asked) -> Request:
        section = self.desk.section
        greedy = section.sampling.greedy_first and wanted.sample == 0
        output = self.desk.specialist.unit(row["task_unit"]).output
        return Request(
            chat=instruct(row["messages"], system=section.system, shots=self.shots(row["text"])),
            seed=wanted.seed,
            temperature=0.0 if greedy else section.sampling.temperature,
            json_schema=decoding_schema(output, row["text"]) if section.structured else None,
        )

    def _answer(self, row: dict[str, Any], wanted: Asked, said: Completion) -> dict[str, Any]:
        return {
            "prompt_id": row["prompt_id"],
            "answer_id": wanted.answer_id,
            "teacher": self.desk.section.name,
            "sample": wanted.sample,
            "seed": wanted.seed,
            "answer": said.text,
            "ending": said.ending,
            "tokens_in": said.tokens_in,
            "tokens_out": said.tokens_out,
            "logprob": said.logprob,
            "seconds": said.seconds,
            "error": said.error,
        }
