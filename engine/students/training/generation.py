"""The metric `exact_match`: the model generates on some validation examples, as the report will ask it, and is compared.

The model is read from the folder that would be the artifact, so what is measured is what is served: its precision, its tokenizer,
its end of turn. Rank 0 generates alone, in batches that do not depend on the number of workers; nothing is random. The grammar is
the one of `engine.inference.vllm_engine`: the schema for the prompt's spans, as far as xgrammar can hold it, without white space.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.checks import is_exact, read_json, without_text_before
from engine.contract.base import JsonSchema
from engine.contract.specialist import TaskUnit
from engine.errors import InputError
from engine.inference.decodable import decodable
from engine.inference.structured import decoding_schema
from engine.inference.turn_marks import encode_chat
from engine.rows import DIFFICULTIES, EXAMPLE, Row
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate
from engine.students.training.state import Served, Training
from engine.tools import conversation

BATCH = 32  # prompts that are answered together
KEYS = ["example_id", "task_unit", "difficulty", "split", "kind"]
COLUMNS = [*KEYS, "messages", "target", "final"]


class Shares(NamedTuple):
    """Shares of exact answers, 0 to 1; None = not measured."""

    served: float | None = None
    free: float | None = None

    @property
    def metric(self) -> float | None:
        """The mean of those that were measured."""
        known = [share for share in self if share is not None]
        return sum(known) / len(known) if known else None

    def columns(self) -> dict[str, float | None]:
        """Return the columns of STEP."""
        return {"metric": self.metric, "served": self.served, "unconstrained": self.free}


@dataclass(frozen=True)
class Question:
    """A validation example as the student is asked."""

    ids: list[int]
    schema: JsonSchema | None
    """Of the decoder; None = it is free."""
    row: Row
    unit: TaskUnit

    def is_right(self, answer: str) -> bool:
        """Return whether `answer` equals what the teacher's answer became: as the report compares with a reference."""
        schema = self.unit.output.json_schema
        if self.unit.supervise == "tools":  # a turn: JSON, whatever the answer is
            return is_exact(answer, self.row["target"], self.schema)
        read = read_json(answer, after_text=True) if self.unit.supervise == "process" and schema else None
        _, answer = without_text_before(read.text if read else answer, self.unit)
        return is_exact(answer, self.row["final"], schema)


class Sample:
    """The validation examples for which the model generates, and their grammars."""

    def __init__(self, rows: Sequence[Row], served: Served, tokenizer: Any) -> None:
        self.served, self.tokenizer = served, tokenizer
        questions = [_question(row, served, tokenizer) for row in rows]
        ordered = sorted(questions, key=lambda each: (each.schema is None, len(each.ids), each.row["example_id"]))
        bound = [question for question in ordered if question.schema is not None]
        free = ordered[len(bound) :]
        self.batches = [part[at : at + BATCH] for part in (bound, free) for at in range(0, len(part), BATCH)]
        self.size = len(questions)
        self.grammars: list[list[Any]] = []

    def exact(self, model: Any, *, decode: str) -> tuple[int, int]:
        """Return how many answers of `model` are exact: as served, and free. One that `decode` does not ask for is 0."""
        served = free = 0
        for index, batch in enumerate(self.batches):
            is_bound = batch[0].schema is not None
            unbound = self._right(model, batch, []) if decode != "served" or not is_bound else 0
            free += unbound
            if decode != "free":
                served += self._right(model, batch, [self._processor(model, index)]) if is_bound else unbound
        return served, free

    def _right(self, model: Any, batch: Sequence[Question], processors: list[Any]) -> int:
        answers = self._generate(model, [question.ids for question in batch], processors)
        return sum(answer is not None and each.is_right(answer) for each, answer in zip(batch, answers, strict=True))

    def _generate(self, model: Any, prompts: Sequence[list[int]], processors: list[Any]) -> list[str | None]:
        """Return the greedy answers; None for one that has no end within the limit."""
        width = max(len(ids) for ids in prompts)
        settings = model.generation_config
        ends = _as_list(settings.eos_token_id)
        pad = ends[0] if settings.pad_token_id is None else settings.pad_token_id
        ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
        with torch.no_grad():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=self.served.max_tokens,
                do_sample=False,
                pad_token_id=pad,
                logits_processor=processors,
            )
        answers = output[:, width:].cpu()
        has_end = torch.isin(answers, torch.tensor(ends)).any(dim=1)
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [text if end else None for text, end in zip(texts, has_end.tolist(), strict=True)]

    def _processor(self, model: Any, index: int) -> Any:
        """Return what masks the logits of the batch `index`; it serves for one call."""
        from xgrammar.contrib.hf import LogitsProcessor

        if not self.grammars:
            self.grammars = _grammars(self.batches, self.tokenizer, model)
        return LogitsProcessor(self.grammars[index])


def measure(training: Training, folder: Path) -> Shares:
    """Return the shares of exact answers of the model in `folder`, which rank 0 has. Every rank must call it."""
    student, counts = training.spec.student, torch.zeros(3, device=training.worker.device)
    if training.worker.rank == 0:
        from transformers import AutoModelForCausalLM

        training.sample = sample = training.sample or _sample(training)
        precision = getattr(torch, student.dtype)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=precision, local_files_only=True, trust_remote_code=False)
        model.to(training.worker.device).eval()
        counts = torch.tensor([*sample.exact(model, decode=student.decode), sample.size], device=training.worker.device)
    served, free, size = (training.sum_over_workers(count) for count in counts.float())
    return Shares(
        served=None if student.decode == "free" else served / size,
        free=None if student.decode == "served" else free / size,
    )


def _sample(training: Training) -> Sample:
    spec = training.spec
    assert spec.served is not None, "the job says how the student is served"
    dataset = load_artifact(Folder(spec.dataset))
    assert dataset is not None, f"{spec.dataset} has no record"
    keys = dataset.read("examples", EXAMPLE, KEYS).filter(pc.field("split") == "validation").to_pylist()
    found = [row["example_id"] for row in chosen(keys, spec.student.metric_examples, spec.title)]
    shards, wanted = iterate(dataset.folder / "examples", dataset.table("examples"), COLUMNS), pa.array(found)
    rows = {row["example_id"]: row for shard in shards for row in shard.filter(pc.is_in(shard["example_id"], wanted)).to_pylist()}
    return Sample([rows[name] for name in found], spec.served, training.pruned.tokenizer)


def chosen(rows: Sequence[Row], count: int, student: str) -> list[Row]:
    """Return `count` of the validation examples `rows`, or all of them, evenly spread over task units and difficulties.

    Examples that were made of failed answers (contrast, refusal, ...) are no requests of the specialist, and are left out.

    Raises:
        InputError: none is left.
    """
    require_answers([row["kind"] for row in rows], student)
    answers = [row for row in rows if row["kind"] == "answer"]
    order = {name: place for place, name in enumerate(DIFFICULTIES)}
    answers.sort(key=lambda row: (row["task_unit"], order.get(row["difficulty"], -1), row["example_id"]))
    return [answers[int(at)] for at in np.linspace(0, len(answers), min(count, len(answers)), endpoint=False)]


def require_answers(kinds: Sequence[str], student: str) -> None:
    """Raise InputError if none of the `kinds` of the validation examples is that of an answer."""
    if "answer" not in kinds:
        raise InputError(
            f"student {student}: metric exact_match: none of the {len(kinds)} validation examples is of the kind `answer`. "
            "Raise curation.pick.validation or give more prompts, or use metric: loss."
        )


def _question(row: Row, served: Served, tokenizer: Any) -> Question:
    unit = served.units[row["task_unit"]]
    text = "\n".join(turn["content"] for turn in row["messages"] if turn["role"] == "user")
    schema = decoding_schema(unit.output, text) if unit.supervise != "process" else None  # reasoning comes first: no grammar
    if unit.supervise == "tools" and served.tools:
        schema = conversation.schema(served.tools, schema)
    return Question(encode_chat(tokenizer, row["messages"]), schema and decodable(schema).schema, row, unit)


def _grammars(batches: Sequence[Sequence[Question]], tokenizer: Any, model: Any) -> list[list[Any]]:
    """Return the compiled grammar of each question, as vLLM compiles it; nothing for a batch that is free."""
    import xgrammar

    size = model.get_output_embeddings().weight.shape[0]
    ends = _as_list(model.generation_config.eos_token_id)
    compiler = xgrammar.GrammarCompiler(
        xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size, stop_token_ids=ends), max_threads=1
    )

    def compiled(question: Question) -> Any:
        return compiler.compile_json_schema(json.dumps(question.schema), any_whitespace=False, separators=(",", ":"))

    return [[compiled(question) for question in batch if question.schema is not None] for batch in batches]


def _as_list(ids: int | Sequence[int]) -> list[int]:
    return [ids] if isinstance(ids, int) else list(ids)
