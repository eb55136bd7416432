"""Scores the targets of examples with one teacher. One per actor; the model is loaded at the first target that is not paid yet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from engine.capture.compact import BINARY, LEVELS, cut, entries, level, pack, unpack
from engine.capture.schemas import CAPTURE
from engine.contract.capture import Capture
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher as TeacherSection
from engine.inference.client import Batch, ClientSpec, ModelClient
from engine.inference.engine import Engine, Lost, Request, instruct
from engine.inference.few_shot import FewShotSelector
from engine.inference.scoring import Distribution, Target, Unscored
from engine.inference.token_budget import TokenUsage
from engine.rows import Row, content_id
from engine.teachers.teacher import prompt_of
from engine.tools import conversation
from engine.tools.agent import Conversation, instructions
from engine.tools.base import Tool
from engine.tools.toolset import Toolset

JOINED = pa.schema(
    [
        ("example_id", pa.string()),
        ("answer_id", pa.string()),
        ("prompt_id", pa.string()),
        ("task_unit", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),  # of the example
        ("target", pa.string()),
        ("teacher", pa.string()),  # "" = nobody's own text
        ("reasoning", pa.string()),
        ("asked", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),  # messages of the prompt
        ("text", pa.string()),  # of the prompt
    ]
)
"""An example with the answer that it was made of."""
PAID = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("capture_id", pa.string()),
        *(CAPTURE.field(name) for name in ("finish_reason", "error", "tokens", "tokens_in", "masked", "wide", *BINARY)),
    ]
)
EMPTY: Row = {"masked": False, "tokens": 0, "tokens_in": 0, "wide": False, **dict.fromkeys(BINARY, b"")}
EXHAUSTED: Row = {**EMPTY, "finish_reason": "budget_exhausted", "error": "not scored: budget.teacher_tokens was spent"}


@dataclass(frozen=True)
class CaptureSpec:
    """Configuration of a teacher's capture; plain picklable values."""

    section: Capture
    teacher: TeacherSection
    specialist: Specialist
    client: ClientSpec
    fallback_of: Sequence[str] = ()
    """All teachers that score, if this one scores the examples that none of them wrote; where `section.teachers` names none."""
    toolset: Toolset | None = None
    systems: Mapping[str, str] = field(default_factory=dict)
    """Task unit -> system text, of a model that has one of its own for each; else it is the teacher's."""
    ending: tuple[int, ...] = ()
    """Ids that end the teacher's turns, if they are others than its end of sequence."""


class Wanted(NamedTuple):
    """One target of a prompt."""

    prompt_id: str
    target: Target


class Capturer:
    """JOINED in, CAPTURE out: one row for each example that is this teacher's to score, ordered by example."""

    def __init__(self, spec: CaptureSpec) -> None:
        self.spec = spec
        self.few_shot = FewShotSelector(spec.teacher.shots)
        self.client: ModelClient[Wanted] = ModelClient(
            spec.client, PAID, prompt_id=lambda wanted: wanted.prompt_id, crashed=lambda _: _failed("error", "killed its engine")
        )
        self.tools: Mapping[str, Tool] | None = None

    def __call__(self, examples: pa.Table) -> pa.Table:
        """Score a block in batches, which are cut alike in every run and are durable one by one."""
        rows = sorted((row for row in examples.to_pylist() if self.is_mine(row)), key=lambda row: row["example_id"])
        size = self.spec.client.pool.batch
        with self.client.block(row["prompt_id"] for row in rows):
            found = [self._batch(rows[start : start + size]) for start in range(0, len(rows), size)]
        return pa.Table.from_pylist([row for batch in found for row in batch], schema=CAPTURE)

    def is_mine(self, row: Row) -> bool:
        """Return whether this teacher scores the example."""
        if self.spec.section.teachers is not None:
            return True  # every example, for the mixture
        others = self.spec.fallback_of
        return row["teacher"] == self.spec.teacher.name or (bool(others) and row["teacher"] not in others)

    def _batch(self, rows: Sequence[Row]) -> list[Row]:
        wanted = [Wanted(row["prompt_id"], self.target(row)) for row in rows]
        stems = [self._stem(each) for each in wanted]
        names = [each for each in LEVELS if each >= self.spec.section.entries]
        keys = {stem: [content_id(stem, name) for name in names] for stem in stems}
        stored = self.client.find(key for each in keys.values() for key in each)
        held = {stem: next((stored[key] for key in each if key in stored), None) for stem, each in keys.items()}
        unpaid = {keys[stem][0]: one for stem, one in zip(stems, wanted, strict=True) if held[stem] is None}
        paid = self.client.answer(unpaid, self._score)
        results = [held[stem] or paid.get(keys[stem][0], EXHAUSTED) for stem in stems]
        return [self._row(row, result) for row, result in zip(rows, results, strict=True)]

    def target(self, row: Row) -> Target:
        """Return what is scored for an example: its target under the prompt with which the teacher answered.

        The example's turns behind its prompt (calls and results of tools, a wrong answer with its correction) come last in the
        chat. Reasoning that the teacher wrote apart from its answer stands before the target, in the teacher's tags.
        """
        teacher, unit = self.spec.teacher, self.spec.specialist.unit(row["task_unit"])
        asked = {"messages": row["asked"], "text": row["text"], "task_unit": row["task_unit"]}
        system = self.spec.systems.get(unit.name, teacher.system)
        request = prompt_of(teacher, self.spec.specialist, self.few_shot, asked, system=system)
        later = row["messages"][len(instruct(row["asked"], system=unit.instruction)) :]
        if self.spec.toolset:
            request = self._with_tools(request, calls=sum(turn["role"] == "assistant" for turn in later))
        chat = [*request.chat, *({"role": turn["role"], "content": turn["content"]} for turn in later)]
        schema = request.json_schema if self.spec.section.constraint == "answer" else None
        return Target(chat, row["target"], self._reasoning(row), schema, self.spec.ending)

    def _with_tools(self, request: Request, *, calls: int) -> Request:
        assert self.spec.toolset
        if self.tools is None:
            self.tools = self.spec.toolset.open()
        may_call = calls < self.spec.toolset.max_calls
        texts = instructions(self.spec.toolset, self.tools)
        chat = Conversation(request._replace(max_calls=self.spec.toolset.max_calls), self.tools, texts).chat
        schema = conversation.schema(list(self.tools) if may_call else [], request.json_schema)
        return request._replace(chat=chat, json_schema=schema)

    def _reasoning(self, row: Row) -> str:
        tags = self.spec.teacher.thinks
        if not tags or row["teacher"] != self.spec.teacher.name:
            return ""
        return f"{tags.open}\n{row['reasoning']}\n{tags.close}\n\n" if row["reasoning"] else ""

    def _stem(self, wanted: Wanted) -> str:
        """Return the hash of all that a distribution depends on but its number of entries."""
        target = wanted.target
        parts = json.dumps(target.chat), target.before, target.text, json.dumps(target.json_schema)
        ending = [json.dumps(target.ending)] if target.ending else []  # as in ledgers that ended every target so
        return content_id(self.client.identity, "capture", *parts, *ending)

    def _score(self, engine: Engine, wanted: Sequence[Wanted]) -> Batch:
        before = engine.tokens_read
        found = engine.distributions([each.target for each in wanted], level(self.spec.section.entries))
        lost = [isinstance(each, Lost) for each in found]
        rows = [_paid_row(each) for each in found]
        scored = sum(isinstance(each, Distribution) for each in found)
        return Batch(rows, TokenUsage(scored, engine.tokens_read - before, 0), lost)

    def _row(self, row: Row, result: Row) -> Row:
        section, same = self.spec.section, {"example_id": row["example_id"], "teacher": self.spec.teacher.name}
        kept = {name: result[name] for name in ("finish_reason", "error", *EMPTY)}
        if result["finish_reason"] == "stop":
            kept |= pack(cut(unpack(result), k=section.entries, mass=section.mass))
        return {**kept, **same}


def _paid_row(found: Distribution | Unscored | Lost) -> Row:
    if isinstance(found, Lost):
        return _failed("error", "the server did not answer")
    if isinstance(found, Unscored):
        return _failed(found.finish_reason, found.error)
    row = {"finish_reason": "stop", "error": "", "tokens": len(found.tokens), "tokens_in": found.tokens_in, "masked": found.masked}
    return {**row, **pack(entries(found))}


def _failed(finish_reason: str, error: str) -> Row:
    return {**EMPTY, "finish_reason": finish_reason, "error": error}
