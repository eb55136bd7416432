"""Answers prompts. One per actor: the model loads at the first prompt whose answer is not in the ledger yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from engine.checks import run_checks
from engine.contract.checks import Check
from engine.contract.models import Sampling
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
    checks: Sequence[Check] = ()
    """What verifies an answer, where `sampling.enough` asks."""


class Asked(NamedTuple):
    """One answer that is wanted."""

    row: int
    sample: int
    seed: int
    answer_id: str


class Teacher:
    """PROMPT in, ANSWER out, in order of prompt and sample: `sampling.n` rows a prompt, or `enough` that are verified."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.identity = identity(desk.section.model, desk.folder)
        self.engine: Engine | None = None
        self.shots = ShotBook(desk.section.shots)
        expected = desk.num_prompts * desk.section.sampling.n
        self.trials = Trials(desk.ledger / MARKS, hang_seconds=desk.pool.hang_seconds, at_once=desk.pool.max_num_seqs)
        self.ledger = Ledger(desk.ledger, PAID, key="answer_id", bucket_by="prompt_id", expected_rows=expected)

    def __call__(self, prompts: pa.Table) -> pa.Table:
        rows = prompts.select(PROMPT.names).to_pylist()
        wanted = [self._wanted(index, row) for index, row in enumerate(rows)]
        answers: list[list[dict[str, Any]]] = [[] for _ in rows]
        for samples in _rounds(self.desk.section.sampling):
            still = [index for index, row in enumerate(rows) if not self._has_enough(row, answers[index])]
            asked = [one for index in still for one in wanted[index][samples]]
            for one, answer in zip(asked, self._answers(rows, asked), strict=True):
                answers[one.row].append(answer)
        said = [row | answer for row, given in zip(rows, answers, strict=True) for answer in given]
        return pa.Table.from_pylist(said, schema=ANSWER)

    def _has_enough(self, row: dict[str, Any], answers: Sequence[dict[str, Any]]) -> bool:
        enough = self.desk.section.sampling.enough
        return enough is not None and sum(self._is_verified(row, answer) for answer in answers) >= enough

    def _is_verified(self, row: dict[str, Any], answer: dict[str, Any]) -> bool:
        schema = self.desk.specialist.unit(row["task_unit"]).output.json_schema
        outcomes = run_checks(self.desk.checks, answer=answer["answer"], text=row["text"], schema=schema)
        return answer["ending"] == "stop" and all(outcome.passed for outcome in outcomes)

    def _answers(self, rows: Sequence[dict[str, Any]], asked: Sequence[Asked]) -> list[dict[str, Any]]:
        """Return what the teacher says to `asked`, in order: from the ledger, or paid for now."""
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
        return [paid[wanted.answer_id] for wanted in asked]

    def _wanted(self, index: int, row: dict[str, Any]) -> list[Asked]:
        """One entry a sample. The id holds all that the answer depends on: ask differently and it is another answer."""
        section = self.desk.section
        sampling = section.sampling
        told = section.model_dump_json(include={"system", "shots", "structured"})
        output = self.desk.specialist.unit(row["task_unit"]).output
        manner = content_id(self.identity, told, output.model_dump_json(), sampling.model_dump_json(exclude={"n", "enough"}))
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


def _rounds(sampling: Sampling) -> list[slice]:
    """Which samples are asked for at once: all; or as many as are enough, and then one after the other."""
    if sampling.enough is None:
        return [slice(0, sampling.n)]
    return [slice(0, sampling.enough), *(slice(sample, sample + 1) for sample in range(sampling.enough, sampling.n))]
