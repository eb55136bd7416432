"""Complexity, quality, instruction-following difficulty and density of answers: CANDIDATE in and out.

Sources stand in `engine.contract.signals`. What is measured of the prompt alone is asked once for all its answers.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.renames import older_json
from engine.contract.signals import Question, Signals
from engine.contract.specialist import Specialist
from engine.inference.engine import Engine, instruct
from engine.inference.till import Account, Till
from engine.judges.rubric import fill
from engine.rows import CANDIDATE, content_id

PAID = pa.schema([("prompt_id", pa.string()), ("number_id", pa.string()), ("value", pa.float64())])
READ = ["prompt_id", "task_unit", "messages", "text", "answer", "finish_reason", "pool"]
PAYEE = "signals"  # by what name the purse knows what is paid for them

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ScorerSpec:
    """All that a measurer needs, in plain picklable values."""

    section: Signals
    specialist: Specialist
    account: Account | None
    """None if no signal is asked that a model is paid for."""


class Scorer:
    """CANDIDATE in, CANDIDATE with its signals out; null in each that is not asked, not paid for or cannot be read."""

    def __init__(self, gauge: ScorerSpec) -> None:
        self.gauge = gauge
        self.till: Till[Row] | None = None
        if gauge.account:
            self.till = Till(gauge.account, PAID, place=itemgetter("prompt_id"))

    def __call__(self, candidates: pa.Table) -> pa.Table:
        is_worth = pc.and_(
            pc.is_in(candidates["pool"], pa.array(self.gauge.section.pools)), pc.equal(candidates["finish_reason"], "stop")
        )
        places = [index for index, worth in enumerate(is_worth.to_pylist()) if worth]
        rows = candidates.select(READ).take(pa.array(places, pa.int64())).to_pylist()
        for name, values in self._measured(rows).items():
            column: list[float | None] = [None] * len(candidates)
            for index, value in zip(places, values, strict=True):
                column[index] = value
            kind = CANDIDATE.field(name)
            candidates = candidates.set_column(candidates.schema.get_field_index(name), kind, pa.array(column, kind.type))
        return candidates

    def _measured(self, rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
        found: dict[str, list[float | None]] = {}
        section = self.gauge.section
        if section.density:
            found["density"] = [density(row["text"], row["answer"]) for row in rows]
        if self.till is None:
            return found
        with self.till.block(row["prompt_id"] for row in rows):
            for name in ("complexity", "quality"):
                question: Question | None = getattr(section, name)
                if question:
                    of_answer = "{answer}" in question.question
                    keys = [
                        self._key(name, older_json(question, f"judges.signals.{name}"), row, of_answer=of_answer) for row in rows
                    ]
                    found[name] = self._numbers(rows, keys, partial(mark, question=question))
            if section.ifd:
                systems = {unit.name: unit.instruction for unit in self.gauge.specialist.task_units}
                keys = [self._key("ifd", systems[row["task_unit"]], row, of_answer=True) for row in rows]
                found["ifd"] = self._numbers(rows, keys, partial(difficulty, systems=systems))
        return found

    def _numbers(self, rows: list[dict[str, Any]], keys: list[str], ask: Any) -> list[float | None]:
        assert self.till
        found = self.till(dict(zip(keys, rows, strict=True)), ask, payee=PAYEE)
        return [found.get(key) for key in keys]

    def _key(self, name: str, asked: str, row: Row, *, of_answer: bool) -> str:
        assert self.till
        return content_id(self.till.identity, name, asked, row["prompt_id"], row["answer"] if of_answer else "")


def mark(engine: Engine, rows: Sequence[Row], *, question: Question) -> list[float | None]:
    """Return the expected mark of each row, 1 for the least."""
    asked = [fill(question.question, {"text": row["text"], "answer": row["answer"]}) for row in rows]
    chats = [instruct([{"role": "user", "content": one}], system=question.system) for one in asked]
    shares = engine.choice_probs(chats, question.scale)
    return [None if one is None else sum(number * share for number, share in enumerate(one, start=1)) for one in shares]


def difficulty(engine: Engine, rows: Sequence[Row], *, systems: Mapping[str, str]) -> list[float | None]:
    """Return the loss of each answer given its prompt over its loss alone (Li et al., 2024, section 2.2)."""
    answers = [row["answer"] for row in rows]
    given = engine.mean_nll([instruct(row["messages"], system=systems[row["task_unit"]]) for row in rows], answers)
    alone = engine.mean_nll([[] for _ in rows], answers)
    return [None if one is None or not other else one / other for one, other in zip(given, alone, strict=True)]


def density(text: str, answer: str) -> float:
    """Return what remains of prompt and answer when compressed (raw DEFLATE, level 9), over their UTF-8 bytes, at most 1."""
    data = f"{text}\n{answer}".encode("utf-8", "surrogatepass")
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return min(1.0, len(squeezed.compress(data) + squeezed.flush()) / len(data))
