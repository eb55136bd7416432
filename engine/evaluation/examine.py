"""One model before the holdout: timed on some prompts alone, then asked the others in batches. One per process."""

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil

from engine.contract.evaluation import Baseline
from engine.contract.models import Model, Sampling, VllmModel
from engine.contract.profile import Pool
from engine.contract.specialist import TaskUnit
from engine.contract.teachers import Shots, Thinks
from engine.evaluation.baseline import Known, build_baseline
from engine.evaluation.size import Size, size
from engine.inference import Chat, Completion, build_model
from engine.inference.engine import Request, instruct
from engine.inference.few_shot import FewShotSelector
from engine.inference.reasoning import parse_reasoning
from engine.inference.structured import decoding_schema
from engine.storage.shards import Folder
from engine.tools.agent import ToolAgent
from engine.tools.toolset import Toolset

log = logging.getLogger(__name__)

WARM_UP = "Hello."
MIB = 2**20


class Answers(Protocol):
    """What models and baselines have in common."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]: ...


@dataclass(frozen=True)
class EvalTarget:
    """A model to be examined and how it is asked, in plain picklable values."""

    name: str
    role: str
    """teacher, student, champion or baseline."""
    model: Model | Baseline
    units: Mapping[str, TaskUnit]
    folder: str | None = None
    """Path or URL of the weights; None for a model that has none."""
    systems: Mapping[str, str] = field(default_factory=dict)
    """Task unit -> system text."""
    shots: Shots = field(default_factory=Shots)
    structured: bool = True
    """Decode by the task unit's JSON schema and spans, where it has any. Never so where the model was taught to reason first."""
    thinks: Thinks | None = None
    """Tags of a model that thinks aloud: only what follows is its answer."""
    max_tokens: int = 128
    known: Known = field(default_factory=Known)
    """Training examples, for a baseline."""
    toolset: Toolset | None = None
    """The tools that it may call; a student calls them where its task unit supervises tools."""

    @cached_property
    def book(self) -> FewShotSelector:
        """Who chooses the worked examples."""
        return FewShotSelector(self.shots)

    def request(self, row: Mapping[str, Any]) -> Request:
        """Return the greedy request for a HOLDOUT row."""
        unit = self.units[row["task_unit"]]
        chat: Chat = instruct(row["messages"], system=self.systems.get(unit.name, ""), shots=self.book(row["text"]))
        reasons = unit.supervise == "process" and self.role in ("student", "champion")
        schema = decoding_schema(unit.output, row["text"]) if self.structured and not reasons else None
        acts = self.toolset is not None and (self.role == "teacher" or unit.supervise == "tools")
        calls = self.toolset.max_calls if acts and self.toolset else 0
        return Request(
            chat, seed=0, temperature=0.0, json_schema=schema, keep_special_tokens=self.thinks is not None, max_calls=calls
        )

    def read(self, said: Completion) -> Completion:
        """Return what it said without what it thought."""
        thought = parse_reasoning(said.text, said.finish_reason, self.thinks)
        return said._replace(text=thought.answer, finish_reason=thought.finish_reason, error=said.error or thought.error)


class Examined(NamedTuple):
    """What an examination found. `completions` stand in the holdout's order."""

    completions: list[Completion]
    seconds: dict[int, float] = {}  # noqa: RUF012 - row -> wall time of the prompt alone in the engine
    tokens_per_second: float | None = None  # answer tokens, in batches
    memory_mib: float | None = None  # resident set of the process, weights and cache included; not the memory of a GPU
    size: Size = Size()
    error: str = ""  # why there are no answers


class Examiner:
    """Loads one model and asks it the holdout."""

    def __init__(self, target: EvalTarget, pool: Pool) -> None:
        self.target, self.pool = target, pool
        self.sampling = Sampling(temperature=0.0, max_tokens=target.max_tokens)
        self.engine, self.size = self._load()

    def ready(self) -> bool:
        """Answer once the model is loaded."""
        return True

    def examine(self, rows: Sequence[Mapping[str, Any]], timed: int) -> Examined:
        """Ask each prompt once: `timed` of them, spread evenly, alone; the rest in batches.

        The timed ones come first. Asked after a batch, a prompt would be found in the prefix cache, and look faster than it is.
        """
        requests = [self.target.request(row) for row in rows]
        alone = spread(len(rows), timed)
        self._warm_up(rows[:1])
        answers: dict[int, Completion] = {}
        seconds: dict[int, float] = {}
        for index in alone:
            started = time.perf_counter()
            [answers[index]] = self.engine.complete([requests[index]], self.sampling)
            seconds[index] = time.perf_counter() - started
        rest = [index for index in range(len(rows)) if index not in answers]
        started = time.perf_counter()
        for start in range(0, len(rest), self.pool.batch):
            batch = rest[start : start + self.pool.batch]
            answers.update(zip(batch, self.engine.complete([requests[i] for i in batch], self.sampling), strict=True))
        together = time.perf_counter() - started
        speed = rate([answers[i] for i in rest], together) if rest else rate(list(answers.values()), sum(seconds.values()))
        memory = psutil.Process().memory_info().rss / MIB
        return Examined([self.target.read(answers[i]) for i in range(len(rows))], seconds, speed, round(memory, 1), self.size)

    def _load(self) -> tuple[Answers, Size]:
        target = self.target
        if target.role == "baseline":
            return build_baseline(target.model, target.known), Size()  # type: ignore[arg-type]
        folder = self._fetch(target.folder) if target.folder else None
        found = size(folder) if folder else Size()
        model: Any = target.model
        if isinstance(model, VllmModel) and found.positions and found.positions < model.max_model_len:
            model = model.model_copy(update={"max_model_len": found.positions})
        engine = build_model(model, self.pool, folder=folder)
        return ToolAgent(engine, target.toolset) if target.toolset else engine, found

    def _fetch(self, url: str) -> Path:
        """Return a local folder of what lies at `url`; a copy lives as long as this process."""
        folder = Folder(url)
        if folder.is_local:
            return Path(folder.path)
        self.copy = tempfile.TemporaryDirectory(prefix="rayleigh-")
        for name in folder.files():
            target = Path(self.copy.name, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.fs.get_file(f"{folder.path}/{name}", str(target))
        return Path(self.copy.name)

    def _warm_up(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Let the engine compile its grammar and cache the text that all prompts share, without showing it a prompt."""
        for row in rows:
            hello = {**row, "messages": [{"role": "user", "content": WARM_UP}], "text": WARM_UP}
            self.engine.complete([self.target.request(hello)], self.sampling)


def spread(rows: int, wanted: int) -> list[int]:
    """Return `wanted` row numbers below `rows`, evenly spread; all of them if there are fewer."""
    count = min(rows, wanted)
    return [index * rows // count for index in range(count)]


def rate(answers: Sequence[Completion], seconds: float) -> float | None:
    """Answer tokens per second; None for a model that counts no tokens."""
    tokens = sum(answer.tokens_out for answer in answers)
    return round(tokens / seconds, 1) if tokens and seconds else None


def failed(rows: int, why: str) -> Examined:
    """The examination of a model that could not be asked: every answer ends as an error."""
    return Examined([Completion("", "error", 0, 0, error=why) for _ in range(rows)], error=why)
