"""Complexity, quality, instruction-following difficulty and density of answers: CANDIDATE in and out.

The sources are named in `engine.contract.signals`. What depends on the prompt alone is asked once for all its answers.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.renames import older_json
from engine.contract.signals import Question, Signals
from engine.contract.specialist import Specialist
from engine.inference.client import Call, ClientSpec, ModelClient, measured
from engine.inference.engine import Engine, Lost, instruct
from engine.judges.rubric import fill
from engine.rows import CANDIDATE, Row, content_id

PAID = pa.schema([("prompt_id", pa.string()), ("number_id", pa.string()), ("value", pa.float64())])
READ = ["prompt_id", "task_unit", "messages", "text", "answer", "finish_reason", "pool"]


@dataclass(frozen=True)
class ScorerSpec:
    """Configuration of a scorer; plain picklable values."""

    section: Signals
    specialist: Specialist
    client: ClientSpec | None
    """None if no signal needs a model."""


class Scorer:
    """CANDIDATE in, CANDIDATE with its signals out. A signal is null if it is not asked for, unreadable or the budget is spent."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.spec = spec
        self.client: ModelClient[Row] | None = None
        if spec.client:
            self.client = ModelClient(spec.client, PAID, prompt_id=itemgetter("prompt_id"), crashed=lambda row: {"value": None})

    def __call__(self, candidates: pa.Table) -> pa.Table:
        is_scored = pc.and_(
            pc.is_in(candidates["pool"], pa.array(self.spec.section.pools)), pc.equal(candidates["finish_reason"], "stop")
        )
        positions = [index for index, scored in enumerate(is_scored.to_pylist()) if scored]
        rows = candidates.select(READ).take(pa.array(positions, pa.int64())).to_pylist()
        for name, values in self._signals(rows).items():
            column: list[float | None] = [None] * len(candidates)
            for index, value in zip(positions, values, strict=True):
                column[index] = value
            field = CANDIDATE.field(name)
            candidates = candidates.set_column(candidates.schema.get_field_index(name), field, pa.array(column, field.type))
        return candidates

    def _signals(self, rows: Sequence[Row]) -> dict[str, list[float | None]]:
        """Return signal -> its value for each row."""
        signals: dict[str, list[float | None]] = {}
        section = self.spec.section
        if section.density:
            signals["density"] = [density(row["text"], row["answer"]) for row in rows]
        if self.client is None:
            return signals
        with self.client.block(row["prompt_id"] for row in rows):
            for name in ("complexity", "quality"):
                question: Question | None = getattr(section, name)
                if question:
                    of_answer = "{answer}" in question.question
                    prompt = older_json(question, f"judges.signals.{name}")
                    keys = [self._key(name, prompt, row, of_answer=of_answer) for row in rows]
                    signals[name] = self._values(rows, keys, measured(partial(rating, question=question), "value"))
            if section.ifd:
                systems = {unit.name: unit.instruction for unit in self.spec.specialist.task_units}
                keys = [self._key("ifd", systems[row["task_unit"]], row, of_answer=True) for row in rows]
                signals["ifd"] = self._values(rows, keys, measured(partial(difficulty, systems=systems), "value"))
        return signals

    def _values(self, rows: Sequence[Row], keys: Sequence[str], call: Call[Row]) -> list[float | None]:
        assert self.client
        paid = self.client.answer(dict(zip(keys, rows, strict=True)), call, batch=self.client.spec.pool.batch)
        return [paid[key]["value"] if key in paid else None for key in keys]

    def _key(self, name: str, question: str, row: Row, *, of_answer: bool) -> str:
        assert self.client
        return content_id(self.client.identity, name, question, row["prompt_id"], row["answer"] if of_answer else "")


def rating(engine: Engine, rows: Sequence[Row], *, question: Question) -> list[float | Lost | None]:
    """Return the expected rating of each row over the token probabilities, 1 for the least; None where it is unreadable."""
    turns = [fill(question.question, {"text": row["text"], "answer": row["answer"]}) for row in rows]
    chats = [instruct([{"role": "user", "content": turn}], system=question.system) for turn in turns]
    replies = engine.choice_probs(chats, question.scale)
    return [
        sum(number * prob for number, prob in enumerate(probs, start=1)) if isinstance(probs, list) else probs for probs in replies
    ]


def difficulty(engine: Engine, rows: Sequence[Row], *, systems: Mapping[str, str]) -> list[float | None]:
    """Return the loss of each answer given its prompt over its loss alone (Li et al., 2024, section 2.2)."""
    answers = [row["answer"] for row in rows]
    given_prompt = engine.mean_nll([instruct(row["messages"], system=systems[row["task_unit"]]) for row in rows], answers)
    alone = engine.mean_nll([[] for _ in rows], answers)
    return [None if loss is None or not base else loss / base for loss, base in zip(given_prompt, alone, strict=True)]


def density(text: str, answer: str) -> float:
    """Return the compressed size of prompt and answer (raw DEFLATE, level 9) over their UTF-8 bytes, at most 1."""
    data = f"{text}\n{answer}".encode("utf-8", "surrogatepass")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return min(1.0, len(deflate.compress(data) + deflate.flush()) / len(data))
