"""Evaluates one model on the holdout: some prompts and a batch are timed, then come the rest. One model per process."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

from engine.contract.evaluation import Baseline, Nearest, Rules
from engine.contract.models import LlamaCppModel, Model, Sampling, VllmModel
from engine.contract.profile import Pool
from engine.contract.specialist import TaskUnit
from engine.contract.teachers import Shots, Thinks
from engine.evaluation.answers import Asked, EvalLedger, LedgerAnswers
from engine.evaluation.baseline import TrainingExamples, build_baseline
from engine.evaluation.size import ModelSize, model_size
from engine.inference.engine import Chat, Completion, Request, build_model, instruct
from engine.inference.few_shot import FewShotSelector
from engine.inference.reasoning import parse_reasoning
from engine.inference.structured import decoding_schema
from engine.inference.weights import Weights, local
from engine.records.report import Role
from engine.rows import Row
from engine.storage.folder import Folder
from engine.storage.local_copy import local_copy
from engine.tools.agent import ToolAgent
from engine.tools.toolset import Toolset

WARM_UP = "Hello."
MIB = 2**20


class Completes(Protocol):
    """Interface that models and baselines share."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]: ...


@dataclass(frozen=True)
class EvalTarget:
    """A model to evaluate and how its prompts are built, in picklable values."""

    name: str
    role: Role
    model: Model | Baseline
    units: Mapping[str, TaskUnit]
    folder: str | Weights | None = None
    """Path or URL of the weights, or where nodes find them; None for a model that has none."""
    systems: Mapping[str, str] = field(default_factory=dict)
    """Task unit -> system text."""
    shots: Shots = field(default_factory=Shots)
    structured: bool = True
    """Constrain decoding to the task unit's JSON schema and spans. Ignored for a student that writes its reasoning first."""
    thinks: Thinks | None = None
    """Tags around the model's reasoning; the answer is the text after it."""
    max_tokens: int = 128
    examples: TrainingExamples = field(default_factory=TrainingExamples)
    """Training examples, for a baseline."""
    exported_from: str | None = None
    """The student of which this is an export; None for a student itself and for any other model."""
    toolset: Toolset | None = None
    """Tools the model may call; a student calls them only where its task unit supervises tools."""

    @cached_property
    def few_shot(self) -> FewShotSelector:
        """Selects the few-shot examples of a prompt."""
        return FewShotSelector(self.shots)

    def request(self, row: Row) -> Request:
        """Return the greedy request for a HOLDOUT row."""
        unit = self.units[row["task_unit"]]
        chat: Chat = instruct(row["messages"], system=self.systems.get(unit.name, ""), shots=self.few_shot(row["text"]))
        reasons = unit.supervise == "process" and self.role in ("student", "champion")
        schema = decoding_schema(unit.output, row["text"]) if self.structured and not reasons else None
        uses_tools = self.toolset is not None and (self.role == "teacher" or unit.supervise == "tools")
        calls = self.toolset.max_calls if uses_tools and self.toolset else 0
        return Request(
            chat, seed=0, temperature=0.0, json_schema=schema, keep_special_tokens=self.thinks is not None, max_calls=calls
        )

    def strip_reasoning(self, completion: Completion) -> Completion:
        """Return `completion` with the text after the reasoning only."""
        parsed = parse_reasoning(completion.text, completion.finish_reason, self.thinks, completion.reasoning)
        return completion._replace(text=parsed.answer, finish_reason=parsed.finish_reason, error=completion.error or parsed.error)


class Evaluated(NamedTuple):
    """Completions and measurements of one model. `completions` are in the holdout's order."""

    completions: list[Completion]
    seconds: dict[int, float] = {}  # noqa: RUF012 - row -> wall time of the prompt alone in the engine
    tokens_per_second: float | None = None  # answer tokens of one batch, nothing else running
    memory_mib: float | None = None  # resident memory of the process and those it started; GPU memory is not in it
    size: ModelSize = ModelSize()
    error: str = ""  # why the model could not be evaluated


class Plan(NamedTuple):
    """The requests of the holdout, and how they are sent: row numbers."""

    asked: list[Asked]
    alone: list[int]  # one at a time
    batches: list[list[int]]  # of which the first is timed


class Evaluator:
    """Loads one model and sends it the holdout.

    Raises:
        ModelError: the weights or the engine cannot be loaded.
    """

    def __init__(self, target: EvalTarget, pool: Pool, ledger: EvalLedger | None = None) -> None:
        self.target, self.pool, self.ledger = target, pool, ledger
        self.answers: LedgerAnswers | None = None  # of a baseline, or without a ledger, nothing is kept
        self.sampling = greedy(target.max_tokens)
        self.engine, self.size = self._load()
        self.plan: Plan | None = None
        self.is_timed = False
        self.completions: dict[int, Completion] = {}

    def become(self, target: EvalTarget) -> None:
        """Evaluate as `target` from now on: the same weights under another name, with other prompts, or decoded in another way."""
        self.target, self.plan, self.is_timed, self.completions = target, None, False, {}
        self.sampling = self.sampling.model_copy(update={"max_tokens": target.max_tokens})

    def ready(self) -> bool:
        """Return True; a caller waits for it until the model is loaded."""
        return True

    def time(self, rows: Sequence[Row], timed: int) -> None:
        """Send `timed` of the prompts, evenly spread, one at a time, then one batch: what `evaluate` reports as latency and speed.

        Nothing else should run meanwhile. The timed prompts come first, or after the engine has forgotten what it has answered: a
        prompt could hit the prefix cache and look faster than it is. `evaluate` sends none of these prompts again.
        """
        plan = self._planned(rows, timed)
        if self.answers and self.completions:
            self.answers.reset_prefix_cache()
        self.is_timed = True
        sent = [*([index] for index in plan.alone), *plan.batches[:1]]
        self._send(plan, sent, warm_up=rows[:1])
        self._time_again(plan, sent, warm_up=rows[:1])

    def batches_left(self, rows: Sequence[Row], timed: int) -> int:
        """Return how many of the batches that `time` does not send the ledger lacks; 0 without a ledger."""
        plan = self._planned(rows, timed)
        if self.answers is None:
            return 0
        with self.answers.block(plan.asked):
            keys = self._keys(plan)
            return sum(not self.answers.has([keys[index] for index in batch]) for batch in plan.batches[1:])

    def answer(self, rows: Sequence[Row], timed: int, part: int, parts: int) -> None:
        """Answer every `parts`-th batch of those that `time` does not send, from `part` on, into the ledger, where `evaluate` finds
        them: that of this engine, or of another one of the same model.

        The batches are the same for any number of engines, and so are the answers.
        """
        plan = self._planned(rows, timed)
        self._send(plan, plan.batches[1 + part :: parts], warm_up=() if self.completions else rows[:1])

    def evaluate(self, rows: Sequence[Row], timed: int) -> Evaluated:
        """Send each prompt once: those that `time` did not send yet, in batches. `time` runs first if it did not.

        With a ledger only what it lacks is sent; the time that an answer took is kept with it.
        """
        if not self.is_timed:
            self.time(rows, timed)
        plan = self._planned(rows, timed)
        self._send(plan, plan.batches[1:])
        completions, measured = self.completions, plan.batches[0] if plan.batches else plan.alone
        spent = {index: completion.seconds for index, completion in completions.items()}
        speed = tokens_per_second([completions[index] for index in measured], sum(spent[index] for index in measured))
        process = psutil.Process()
        memory = sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / MIB
        answers = [self.target.strip_reasoning(completions[index]) for index in range(len(rows))]
        return Evaluated(answers, {index: spent[index] for index in plan.alone}, speed, round(memory, 1), self.size)

    def _planned(self, rows: Sequence[Row], timed: int) -> Plan:
        """Build the request of each row, once, and choose which are sent alone and which in a batch."""
        if self.plan is None:
            alone, batches = split(len(rows), timed, self.pool.batch)
            self.plan = Plan([Asked(row["prompt_id"], self.target.request(row)) for row in rows], alone, batches)
        return self.plan

    def _send(self, plan: Plan, batches: Sequence[Sequence[int]], warm_up: Sequence[Row] = ()) -> None:
        """Answer `batches` of row numbers, one after another. The engine warms up first unless the ledger holds all answers."""
        asked = plan.asked
        with self.answers.block(asked) if self.answers else nullcontext():
            keys = self._keys(plan)
            if not (self.answers and self.answers.has(keys)):
                self._warm_up(warm_up)
            for batch in batches:
                answers = self._complete({keys[index]: asked[index] for index in batch})
                self.completions.update({index: answers[keys[index]] for index in batch})

    def _time_again(self, plan: Plan, batches: Sequence[Sequence[int]], warm_up: Sequence[Row]) -> None:
        """Send those of `batches` again that another machine has timed: the answers stay, and the times are those of this one."""
        elsewhere, keys = self.answers.elsewhere if self.answers else set[str](), self._keys(plan)
        for batch in batches:
            well = all(self.completions[index].finish_reason in ("stop", "length") for index in batch)  # others may kill the engine
            if not well or elsewhere.isdisjoint(keys[index] for index in batch):
                continue
            self._warm_up(warm_up)
            warm_up, started = (), time.perf_counter()
            self.engine.complete([plan.asked[index].request for index in batch], self.sampling)
            share = (time.perf_counter() - started) / len(batch)
            self.completions.update({index: self.completions[index]._replace(seconds=share) for index in batch})

    def _keys(self, plan: Plan) -> list[str]:
        if self.answers is None:
            return [str(index) for index in range(len(plan.asked))]
        tools = self.target.toolset.identity if self.target.toolset else ""
        timed = [index in set(plan.alone) for index in range(len(plan.asked))]
        return self.answers.keys(plan.asked, self.sampling, alone=timed, tools=tools)

    def _complete(self, asked: dict[str, Asked]) -> dict[str, Completion]:
        """Return key -> completion of one batch, each with its share of the wall time."""
        if self.answers:
            return self.answers(asked, self.sampling)
        started = time.perf_counter()
        completions = self.engine.complete([each.request for each in asked.values()], self.sampling)
        share = (time.perf_counter() - started) / len(asked)
        return {key: completion._replace(seconds=share) for key, completion in zip(asked, completions, strict=True)}

    def _load(self) -> tuple[Completes, ModelSize]:
        target, model = self.target, self.target.model
        if isinstance(model, Rules | Nearest):
            return build_baseline(model, target.examples), ModelSize()
        folder = self._fetch(target.folder) if target.folder else None
        size = model_size(folder) if folder else ModelSize()
        model = within_positions(model, size)
        engine = build_model(model, self.pool, folder=folder)
        engine = ToolAgent(engine, target.toolset) if target.toolset else engine
        if self.ledger:
            self.answers = LedgerAnswers(engine, model, self.pool, folder, self.ledger)
        return engine, size

    def _fetch(self, place: str | Weights) -> Path:
        """Return a folder of this node with the weights; a copy of a URL lives as long as this process."""
        if not isinstance(place, str):
            return local(place)
        folder, self.copy = local_copy(Folder(place))
        return folder

    def _warm_up(self, rows: Sequence[Row]) -> None:
        """Let the engine compile its grammar and cache the shared prefix, without sending it a holdout prompt."""
        for row in rows:
            hello = {**row, "messages": [{"role": "user", "content": WARM_UP}], "text": WARM_UP}
            self.engine.complete([self.target.request(hello)], self.sampling)


def within_positions(model: Model, size: ModelSize) -> Model:
    """Return `model` with a context that is no longer than its positions."""
    if isinstance(model, VllmModel | LlamaCppModel) and size.positions and size.positions < model.max_model_len:
        return model.model_copy(update={"max_model_len": size.positions})
    return model


def greedy(max_tokens: int) -> Sampling:
    """Return how every model is evaluated and served: its most probable answer of at most `max_tokens` tokens."""
    return Sampling(temperature=0.0, max_tokens=max_tokens)


def evenly_spaced(rows: int, count: int) -> list[int]:
    """Return `count` evenly spaced row numbers below `rows`; all of them if there are fewer."""
    count = min(rows, count)
    return [index * rows // count for index in range(count)]


def split(rows: int, timed: int, batch: int) -> tuple[list[int], list[list[int]]]:
    """Return which of so many rows are sent one at a time, and the batches of the others."""
    alone = evenly_spaced(rows, timed)
    rest = [index for index in range(rows) if index not in set(alone)]
    return alone, [rest[start : start + batch] for start in range(0, len(rest), batch)]


def tokens_per_second(completions: Sequence[Completion], seconds: float) -> float | None:
    """Return answer tokens per second; None for a model that counts no tokens."""
    tokens = sum(completion.tokens_out for completion in completions)
    return round(tokens / seconds, 1) if tokens and seconds else None


def failed(rows: int, why: str) -> Evaluated:
    """Return the result of a model that could not be loaded or died: every answer ends as `error`."""
    return Evaluated([Completion("", "error", 0, 0, error=why) for _ in range(rows)], error=why)
