"""Answers prompts. One per actor: the model loads at the first prompt whose answer is not in the ledger yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from engine.checks import Seen, run_checks
from engine.contract.checks import Check
from engine.contract.models import Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher as TeacherSection
from engine.inference.crash_isolation import CrashIsolator
from engine.inference.engine import Completion, Engine, Request, build_model, instruct
from engine.inference.few_shot import FewShotSelector
from engine.inference.identity import identity
from engine.inference.ledger import Ledger
from engine.inference.reasoning import parse_reasoning
from engine.inference.structured import decoding_schema
from engine.inference.token_budget import TokenBudget, TokenUsage
from engine.rows import ANSWER, PROMPT, content_id
from engine.storage.shards import Folder
from engine.tools.agent import ToolAgent
from engine.tools.toolset import Toolset

ASKED = [*PROMPT.names, "route"]
"""What an answer repeats of its prompt."""
PAID = pa.schema([ANSWER.field("prompt_id"), *(field for field in ANSWER if field.name not in (*ASKED, "reasoning"))])
"""What the ledger keeps of an answer, as it came: all that its prompt does not say. Reasoning is told from it by whoever reads."""

KILLED = Completion("", "error", 0, 0, error="killed its engine, alone and in every batch that it was part of")
BUDGET_EXHAUSTED = Completion("", "budget_exhausted", 0, 0, error="not asked: budget.teacher_tokens was spent")


@dataclass(frozen=True)
class TeacherSpec:
    """All that a teacher needs, in plain picklable values."""

    section: TeacherSection
    specialist: Specialist
    pool: Pool
    folder: Path | None
    """The model's weights."""
    ledger: Folder
    """Answers that were paid for, perhaps by other runs too."""
    markers: Folder
    """Who is at work, in this run."""
    purse: Folder
    """What this run's teachers were paid."""
    checks: Sequence[Check] = ()
    """What verifies an answer, where `sampling.enough` asks."""
    cap: int | None = None
    """Tokens that all teachers together may be paid for."""
    kit: Toolset | None = None
    """The tools that it may call, in mode `tools`."""


class Asked(NamedTuple):
    """One answer that is wanted."""

    row: int
    sample: int
    seed: int
    answer_id: str


class Teacher:
    """PROMPT in, ANSWER out, in order of prompt and sample: `sampling.n` rows a prompt, or `enough` that are verified.

    A prompt may have a `route`, which its answers repeat.
    """

    def __init__(self, desk: TeacherSpec) -> None:
        self.desk = desk
        self.identity = identity(desk.section.model, desk.folder)
        self.engine: Engine | None = None
        self.shots = FewShotSelector(desk.section.shots)
        self.manners: dict[str, str] = {}
        self.trials = CrashIsolator(desk.markers, hang_seconds=desk.pool.hang_seconds, at_once=desk.pool.max_num_seqs)
        self.purse = TokenBudget(desk.purse, desk.cap)
        self.may_pay = True
        self.ledger = Ledger(desk.ledger, PAID, key="answer_id", place="prompt_id")

    def __call__(self, prompts: pa.Table) -> pa.Table:
        """Answer a block in batches, which are cut alike in every run and durable one by one."""
        size = self.desk.pool.batch
        with self.ledger.block(prompts["prompt_id"].to_pylist()):
            batches = [self._batch(prompts.slice(start, size)) for start in range(0, max(prompts.num_rows, 1), size)]
        return pa.concat_tables(batches)

    def _batch(self, prompts: pa.Table) -> pa.Table:
        rows = prompts.select([name for name in ASKED if name in prompts.column_names]).to_pylist()
        wanted = [self._wanted(index, row) for index, row in enumerate(rows)]
        answers: list[list[dict[str, Any]]] = [[] for _ in rows]
        self.may_pay = not self.purse.is_empty()  # settled for all rounds, so that no prompt is left with a part of its samples
        for samples in _rounds(self.desk.section.sampling):
            still = [index for index, row in enumerate(rows) if not self._has_enough(row, answers[index])]
            asked = [one for index in still for one in wanted[index][samples]]
            for one, answer in zip(asked, self._answers(rows, asked), strict=True):
                answers[one.row].append(answer)
        whole = [self._all_or_none(row, given, wanted[index]) for index, (row, given) in enumerate(zip(rows, answers, strict=True))]
        said = [{"route": "", **row, **answer} for row, given in zip(rows, whole, strict=True) for answer in given]
        return pa.Table.from_pylist(said, schema=ANSWER)

    def _all_or_none(self, row: dict[str, Any], given: list[dict[str, Any]], wanted: Sequence[Asked]) -> list[dict[str, Any]]:
        """Samples that were paid for before the cap was reached do not speak for a prompt alone: they stay in the ledger."""
        if all(answer["finish_reason"] != BUDGET_EXHAUSTED.finish_reason for answer in given):
            return given
        return [self._read(self._answer(row, one, BUDGET_EXHAUSTED)) for one in wanted]

    def _has_enough(self, row: dict[str, Any], answers: Sequence[dict[str, Any]]) -> bool:
        enough = self.desk.section.sampling.enough
        return enough is not None and sum(self._is_verified(row, answer) for answer in answers) >= enough

    def _is_verified(self, row: dict[str, Any], answer: dict[str, Any]) -> bool:
        seen = Seen.of(row | answer, self.desk.specialist.unit(row["task_unit"]))
        return answer["finish_reason"] == "stop" and all(outcome.passed for outcome in run_checks(self.desk.checks, seen))

    def _answers(self, rows: Sequence[dict[str, Any]], asked: Sequence[Asked]) -> list[dict[str, Any]]:
        """Return what the teacher says to `asked`, in order: from the ledger, or paid for now."""
        paid = self._paid(asked)
        open_ = [wanted for wanted in asked if wanted.answer_id not in paid]
        if not self.may_pay:
            paid.update({one.answer_id: self._answer(rows[one.row], one, BUDGET_EXHAUSTED) for one in open_})
            open_ = []
        if open_ and self.engine is None:
            build = partial(build_model, self.desk.section.model, self.desk.pool, folder=self.desk.folder)
            engine = self.trials.load(build, self.desk.section.model.path)
            self.engine = ToolAgent(engine, self.desk.kit) if self.desk.kit else engine

        def ask(batch: Sequence[int]) -> None:
            paid.update(self._pay(rows, [open_[index] for index in batch]))

        def give_up(index: int) -> None:
            paid.update(self._record(rows, [open_[index]], [KILLED]))

        self.trials([wanted.answer_id for wanted in open_], ask, give_up)
        return [self._read(paid[wanted.answer_id]) for wanted in asked]

    def _read(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return a paid answer with the reasoning told from it."""
        thought = parse_reasoning(answer["answer"], answer["finish_reason"], self.desk.section.thinks)
        return {**answer, **thought._asdict(), "error": answer["error"] or thought.error}

    def _wanted(self, index: int, row: dict[str, Any]) -> list[Asked]:
        """One entry a sample. The id holds all that the answer depends on: ask differently and it is another answer."""
        section, sampling = self.desk.section, self.desk.section.sampling
        manner = self._manner(row["task_unit"])
        wanted = []
        for sample in range(sampling.n):
            seed = int(content_id(sampling.seed, row["prompt_id"], sample)[:8], 16)
            wanted.append(Asked(index, sample, seed, content_id(row["prompt_id"], section.name, manner, seed, sample)))
        return wanted

    def _manner(self, task_unit: str) -> str:
        """Hash of who answers a prompt of `task_unit` and how it is told to."""
        if task_unit not in self.manners:
            section = self.desk.section
            told = section.model_dump_json(include={"system", "shots", "structured"}) + ("aloud" if section.thinks else "")
            output = self.desk.specialist.unit(task_unit).output.model_dump_json()
            sampling = section.sampling.model_dump_json(exclude={"n", "enough"})
            acts = [self.desk.kit.identity] if self.desk.kit else []
            self.manners[task_unit] = content_id(self.identity, told, output, sampling, *acts)
        return self.manners[task_unit]

    def _paid(self, asked: Sequence[Asked]) -> dict[str, dict[str, Any]]:
        return {answer["answer_id"]: answer for answer in self.ledger.find(w.answer_id for w in asked).to_pylist()}

    def _pay(self, rows: Sequence[dict[str, Any]], asked: Sequence[Asked]) -> dict[str, dict[str, Any]]:
        assert self.engine is not None
        self.engine.reset_prefix_cache()
        requests = [self._request(rows[w.row], w) for w in asked]
        return self._record(rows, asked, self._complete(requests))

    def _complete(self, requests: Sequence[Request]) -> list[Completion]:
        assert self.engine is not None
        said = self.engine.complete(requests, self.desk.section.sampling)
        paid = [one for one in said if not one.retryable and one.finish_reason != "too_long"]
        spent = TokenUsage(len(paid), sum(one.tokens_in for one in paid), sum(one.tokens_out for one in paid))
        self.purse.pay(self.desk.section.name, spent)
        return said

    def _record(
        self, rows: Sequence[dict[str, Any]], asked: Sequence[Asked], said: Sequence[Completion]
    ) -> dict[str, dict[str, Any]]:
        """Return the answers by their id, once those that were paid for are in the ledger."""
        fresh = [self._answer(rows[w.row], w, completion) for w, completion in zip(asked, said, strict=True)]
        kept = [answer for answer, completion in zip(fresh, said, strict=True) if not completion.retryable]
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
            keep_special_tokens=section.thinks is not None,
            max_calls=self.desk.kit.max_calls if self.desk.kit else 0,
        )

    def _answer(self, row: dict[str, Any], wanted: Asked, said: Completion) -> dict[str, Any]:
        return {
            "prompt_id": row["prompt_id"],
            "answer_id": wanted.answer_id,
            "teacher": self.desk.section.name,
            "sample": wanted.sample,
            "seed": wanted.seed,
            "answer": said.text,
            "finish_reason": said.finish_reason,
            "tokens_in": said.tokens_in,
            "tokens_out": said.tokens_out,
            "logprob": said.logprob,
            "seconds": said.seconds,
            "error": said.error,
            "trajectory": list(said.trajectory),
        }


def _rounds(sampling: Sampling) -> list[slice]:
    """Which samples are asked for at once: all; or as many as are enough, and then one after the other."""
    if sampling.enough is None:
        return [slice(0, sampling.n)]
    return [slice(0, sampling.enough), *(slice(sample, sample + 1) for sample in range(sampling.enough, sampling.n))]
