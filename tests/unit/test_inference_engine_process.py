"""An engine in a process of its own: faults of a load, requests that join while others run, temporary files."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from engine.contract.models import Sampling
from engine.errors import ModelError
from engine.inference import engine_process
from engine.inference.batcher import Arrived, Done
from engine.inference.engine import Completion, Request
from engine.inference.engine_process import EngineProcess
from engine.serving.worker import Load, Worker

STEP = 0.05  # seconds of a step of a stand-in
ASKED = Request([{"role": "user", "content": "Hello."}], 0, 0.0)


class Pairs:
    """Answers two requests at a time: the first one waits for a second."""

    def __init__(self) -> None:
        self.at_once, self.waiting = 2, list[Arrived]()
        self.file = Path(tempfile.mkdtemp(), "weights")
        self.file.write_text("x")

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        raise NotImplementedError

    def batcher(self, at_once: int) -> "Pairs":
        return self

    def add(self, arrived: Arrived) -> None:
        self.waiting.append(arrived)

    def step(self) -> list[Done]:
        if len(self.waiting) < 2:
            time.sleep(0.01)
            return []
        pair, self.waiting = self.waiting, []
        return [Done(each.ticket, Completion(str(self.file), "stop", 1, 1, None, 0.0)) for each in pair]

    def abort(self, ticket: str) -> None:
        self.waiting = [each for each in self.waiting if each.ticket != ticket]


def broken() -> Pairs:
    raise ValueError("there are no weights")


def test_an_engine_that_cannot_be_loaded_says_why() -> None:
    with pytest.raises(ModelError, match="ValueError: there are no weights"):
        EngineProcess(broken, 1)


def test_a_request_joins_while_the_engine_computes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "TICK", 600.0)  # nothing but the second request can end the first step
    worker = Worker(Load(partial(EngineProcess, Pairs, 2), Sampling(), 2, 8))
    worker.start()

    async def run() -> list[str]:
        while not worker.is_ready:
            await asyncio.sleep(0.01)
        first = asyncio.create_task(worker.ask(ASKED, deadline=time.monotonic() + 60))
        while not worker.running:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # the step waits
        computed = [await worker.ask(ASKED, deadline=time.monotonic() + 60), await first]
        return [each.completion.text for each in computed]

    file, _ = asyncio.run(run())
    assert Path(file).is_file()
    worker.stop(30)
    assert not Path(file).parent.exists()  # temporary files are removed after the process


class Steps(Pairs):
    """Answers after three steps."""

    def step(self) -> list[Done]:
        time.sleep(STEP)
        self.steps = getattr(self, "steps", 0) + bool(self.waiting)
        done, self.waiting = (self.waiting, []) if self.steps == 3 else ([], self.waiting)
        return [Done(each.ticket, Completion("x", "stop", 1, 1, None, 0.0)) for each in done]


def test_an_engine_in_the_background_rests_between_its_steps_while_others_compute() -> None:
    engine = EngineProcess(Steps, 2, background=True)
    try:
        engine.give_way(True)
        started, told = time.monotonic(), list[Done]()
        engine.add(Arrived("one", ASKED, Sampling()))
        while not told:
            told += engine.step()
        assert time.monotonic() - started >= 2 * (1 + engine_process.REST) * STEP  # it has rested before the second and the third
    finally:
        engine.close()
