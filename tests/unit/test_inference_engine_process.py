"""An engine in a process of its own: faults of a load, requests that join while others run, temporary files."""

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest

from engine.contract.models import Sampling
from engine.errors import ModelError, StorageError
from engine.inference import engine_process
from engine.inference.batcher import Arrived, Done
from engine.inference.engine import Completion, Request
from engine.inference.engine_child import REST
from engine.inference.engine_process import EngineProcess
from engine.serving.refusals import EngineFault
from engine.serving.worker import Load, Worker
from engine.storage.folder import Folder
from engine.storage.local_copy import local_copy

STEP = 0.02  # seconds of a step of a stand-in
ASKED = Request([{"role": "user", "content": "Hello."}], 0, 0.0)


class Pairs:
    """Answers two requests at a time: the first one waits for a second."""

    def __init__(self) -> None:
        self.at_once, self.waiting = 2, list[Arrived]()
        remote = Folder("memory://release")
        remote.write("weights", b"x")
        folder, self.copy = local_copy(remote)
        self.file = folder / "weights"

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


def changed() -> Pairs:
    raise StorageError("a file of the release was changed")


def endless() -> Pairs:
    time.sleep(600)
    raise AssertionError


class Helped(Pairs):
    """Has a process of its own; fails at every request."""

    def __init__(self) -> None:
        super().__init__()
        self.helper = subprocess.Popen(["sleep", "600"])

    def add(self, arrived: Arrived) -> None:
        if not arrived.request.chat:
            raise Outgrown(str(self.helper.pid))
        super().add(arrived)


class Outgrown(Exception):
    """A fault that only the process knows by name."""


def worker_of(engine: Callable[[], Pairs], on_fatal: Callable[[BaseException], None] = lambda error: None) -> Worker:
    worker = Worker(Load(partial(EngineProcess, engine, 2), Sampling(), 2, 8), on_fatal=on_fatal)
    worker.start()
    return worker


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.02)


def test_an_engine_that_cannot_be_loaded_says_why() -> None:
    with pytest.raises(ModelError, match="ValueError: there are no weights"):
        EngineProcess(broken, 1).ready()
    with pytest.raises(StorageError, match="of the release"):
        EngineProcess(changed, 1).ready()


def test_a_request_joins_while_the_engine_computes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "TICK", 600.0)  # nothing but the second request can end the first step
    worker = worker_of(Pairs)

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
    assert not Path(file).parent.exists()  # copies of remote folders are removed with the process


class Steps(Pairs):
    """Answers after three steps."""

    def step(self) -> list[Done]:
        time.sleep(STEP)
        self.steps = getattr(self, "steps", 0) + bool(self.waiting)
        done, self.waiting = (self.waiting, []) if self.steps == 3 else ([], self.waiting)
        return [Done(each.ticket, Completion("x", "stop", 1, 1, None, 0.0)) for each in done]


class Reads(Pairs):
    """Reads requests ahead; the first step computes until two are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.threads = threading.Semaphore(0), dict[str, int]()

    def prepare(self, arrived: Arrived) -> None:
        if arrived.request.seed:
            raise ValueError("it cannot be read")
        self.threads[arrived.ticket] = threading.get_ident()
        self.read.release()

    def step(self) -> list[Done]:
        assert self.read.acquire(timeout=60) and self.read.acquire(timeout=60)
        text = " ".join(str(self.threads.get(each.ticket) not in (None, threading.get_ident())) for each in self.waiting)
        done, self.waiting = self.waiting, []
        return [Done(each.ticket, Completion(text, "stop", 1, 1, None, 0.0)) for each in done]


def first_answer(engine: EngineProcess, *requests: Request) -> str:
    """Send `requests`, a moment apart; return what comes back for the first."""
    for number, request in enumerate(requests):
        engine.add(Arrived(str(number), request, Sampling()))
        time.sleep(0.2)
    found, end = dict[str, str](), time.monotonic() + 60
    while "0" not in found and time.monotonic() < end:
        found |= {told.ticket: told.completion.text for told in engine.step() if isinstance(told, Done)}
    return found["0"]


def test_a_request_is_read_while_a_step_computes() -> None:
    engine = EngineProcess(Reads, 2).ready()
    try:  # the step of the first one ends because the second one is read meanwhile
        assert first_answer(engine, ASKED, ASKED) == "True"
    finally:
        engine.close()


def test_a_request_that_cannot_be_read_ahead_is_added_all_the_same() -> None:
    engine = EngineProcess(Reads, 3).ready()
    try:
        assert first_answer(engine, ASKED._replace(seed=1), ASKED, ASKED) == "False"
    finally:
        engine.close()


def test_an_engine_in_the_background_rests_between_its_steps_while_others_compute() -> None:
    engine = EngineProcess(Steps, 2, background=True).ready()
    try:
        engine.give_way(True)
        started, told = time.monotonic(), list[Done]()
        engine.add(Arrived("one", ASKED, Sampling()))
        while not told:
            told += engine.step()
        assert time.monotonic() - started >= 2 * (1 + REST) * STEP  # it has rested before the second and the third
    finally:
        engine.close()


def test_the_death_of_an_idle_engine_is_noticed() -> None:
    faults = list[BaseException]()
    worker = worker_of(Pairs, faults.append)
    until(lambda: worker.is_ready)
    assert worker.process
    worker.process.process.kill()
    until(lambda: bool(faults))
    assert "exit code -9" in str(worker.fault) and not worker.is_ready


def test_a_load_that_nobody_waits_for_is_ended() -> None:
    faults = list[BaseException]()
    worker = worker_of(endless, faults.append)
    until(lambda: worker.process is not None)
    assert worker.process
    process = worker.process.process
    worker.stop(60)
    assert not worker.thread.is_alive() and process.exitcode == -signal.SIGKILL and not faults


def test_a_fault_has_its_name_and_what_the_engine_started_ends_with_it() -> None:
    worker = worker_of(Helped)
    until(lambda: worker.is_ready)
    with pytest.raises(EngineFault, match=r"^Outgrown$"):
        asyncio.run(worker.ask(ASKED._replace(chat=[]), deadline=time.monotonic() + 60))
    assert worker.process
    [helper] = [each for each in psutil.Process(worker.process.process.pid).children() if each.name() == "sleep"]
    worker.process.process.kill()  # as the kernel does that lacks memory
    until(lambda: not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE)  # of an init that does not wait
    worker.stop(30)


def test_a_worker_that_waits_for_another_one_stops_at_once_and_loads_nothing() -> None:
    loaded = list[str]()
    first = Worker(Load(Pairs, Sampling(), 2, 8))  # never started
    second = Worker(Load(lambda: loaded.append("second") or Pairs(), Sampling(), 2, 8))
    second.start(after=first)
    second.stop(60)
    assert not second.thread.is_alive() and not loaded and second.fault is None


def test_an_engine_is_loaded_after_that_of_the_worker_before() -> None:
    order, gate = list[str](), threading.Event()

    def load(name: str) -> Pairs:
        if name == "first":
            gate.wait(60)
        order.append(name)
        return Pairs()

    first, second = (Worker(Load(partial(load, name), Sampling(), 2, 8)) for name in ("first", "second"))
    second.start(after=first)
    first.start()
    gate.set()
    until(lambda: second.is_ready)
    assert order == ["first", "second"]
    for worker in (first, second):
        worker.stop(30)
