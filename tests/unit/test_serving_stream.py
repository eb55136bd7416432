"""Answers as server-sent events that grow, over real sockets and a stand-in that gives a few characters a step."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_port import Port, listening
from serving_world import ANSWER, ASK, Standin

from engine.contract.models import Sampling
from engine.inference.batcher import Arrived, Done, Grown
from engine.inference.engine import Completion, Request
from engine.inference.engine_process import EngineProcess
from engine.serving.chat_events import ChatEvents
from engine.serving.recorder import Keeping
from engine.serving.router import Answer, Asked, Decision
from jobs.commands.sql import Views

FIRST = 12  # characters that are there before the gate opens


class Stepper(Standin):
    """An engine that gives three characters a step; after the first ones it waits for its gate."""

    def __init__(self) -> None:
        super().__init__()
        self.running: dict[str, int] = {}
        self.given_up: list[str] = []
        self.wanted: list[bool] = []

    def batcher(self, at_once: int) -> "Stepper":
        """Return itself."""
        self.at_once = at_once
        return self

    def add(self, arrived: Arrived) -> Completion | None:
        """Begin a request."""
        self.wanted.append(arrived.grows)
        self.running[arrived.ticket] = 0
        return None

    def step(self) -> Sequence[Done | Grown]:
        """Go three characters on."""
        time.sleep(0.005)
        told: list[Done | Grown] = []
        for ticket, at in [*self.running.items()]:
            if at < FIRST or self.gate.is_set():
                at = self.running[ticket] = at + 3
                told.append(Grown(ticket, self.text[:at]))
            if self.faults and at >= FIRST:
                raise RuntimeError("a kernel failed")
            if at >= len(self.text):
                del self.running[ticket]
                told[-1] = Done(ticket, self.completion._replace(text=self.text))
        return told

    def abort(self, ticket: str) -> None:
        """Give a request up."""
        self.running.pop(ticket, None)
        self.given_up.append(ticket)


class Stream:
    """A request that is being answered."""

    def __init__(self, response: httpx.Response) -> None:
        self.response, self.text, self.last, self.is_done = response, "", dict[str, Any](), False
        self.lines = response.iter_lines()

    def read(self, until: Callable[["Stream"], bool] = lambda stream: False) -> None:
        """Read events until something holds, or to the end."""
        while not until(self):
            if (line := next(self.lines, None)) is None:
                return
            if line.startswith("data: {"):
                self.last = json.loads(line.removeprefix("data: "))
                self.text += "".join(choice["delta"].get("content") or "" for choice in self.last.get("choices", []))
            self.is_done |= line == "data: [DONE]"


@pytest.fixture
def engine() -> Stepper:
    return Stepper()


@pytest.fixture
def port(tmp_path: Path, engine: Stepper) -> Iterator[Port]:
    with listening(tmp_path, engine, keeping=Keeping(tmp_path / "kept")) as port:
        yield port


def asked(port: Port, **changes: Any) -> Any:
    """Return what opens a stream."""
    return httpx.stream(
        "POST", f"http://127.0.0.1:{port.port}/v1/chat/completions", json={**ASK, "stream": True, **changes}, timeout=20
    )


def rows(tmp_path: Path, count: int) -> list[dict[str, Any]]:
    """Return the records, the last one at the end, once there are as many."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        time.sleep(0.1)
        kept = Views(str(tmp_path / "kept")).rows("select status, error, answer from requests order by time")
        if len(kept) >= count:
            return kept
    raise AssertionError(f"found {len(kept)} records")


def test_an_answer_is_sent_as_it_grows_and_is_the_whole_answer_in_the_end(port: Port, engine: Stepper, tmp_path: Path) -> None:
    engine.gate.clear()
    with asked(port, stream_options={"include_usage": True}) as response:
        stream = Stream(response)
        stream.read(lambda stream: len(stream.text) >= FIRST)
        assert stream.text == ANSWER[:FIRST] and port.app.in_flight == 1
        engine.gate.set()
        stream.read()
    assert stream.text == ANSWER and stream.is_done and stream.last["usage"]["total_tokens"] == 12
    assert rows(tmp_path, 1) == [{"status": 200, "error": "", "answer": ANSWER}]
    assert port.app.in_flight == 0 and len(response.headers["x-request-id"]) == 32


def test_a_caller_that_goes_in_the_middle_frees_its_place(port: Port, engine: Stepper, tmp_path: Path) -> None:
    engine.gate.clear()
    with asked(port) as response:
        Stream(response).read(lambda stream: len(stream.text) >= FIRST)
    assert rows(tmp_path, 1) == [{"status": 499, "error": "client_disconnected", "answer": None}]
    assert engine.given_up and not engine.running and port.app.in_flight == 0


def test_an_error_after_the_beginning_is_an_event(port: Port, engine: Stepper, tmp_path: Path) -> None:
    engine.gate.clear()
    with asked(port) as response:  # its deadline passes
        stream = Stream(response)
        stream.read()
    assert response.status_code == 200 and stream.text == ANSWER[:FIRST] and not stream.is_done
    assert stream.last["error"]["code"] == "deadline_exceeded" and rows(tmp_path, 1)[-1]["status"] == 504
    engine.faults = 1
    with asked(port) as response:
        stream = Stream(response)
        stream.read()
    assert stream.last["error"]["code"] == "engine_error" and rows(tmp_path, 2)[-1]["error"] == "engine_error"
    with asked(port, temperature=1) as response:
        assert response.status_code == 400


def test_a_fault_of_the_server_in_the_middle_is_its_own(port: Port, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(events: ChatEvents, text: str) -> str:
        raise ValueError("a fault")

    monkeypatch.setattr(ChatEvents, "grow", grow)
    with asked(port) as response:
        stream = Stream(response)
        stream.read()
    assert stream.last["error"]["code"] == "internal_error" and not stream.is_done
    assert rows(tmp_path, 1) == [{"status": 500, "error": "internal_error", "answer": None}]
    assert port.app.in_flight == 0


def test_a_stop_ends_no_stream(port: Port, engine: Stepper) -> None:
    engine.gate.clear()
    with asked(port) as response:
        stream = Stream(response)
        stream.read(lambda stream: len(stream.text) >= FIRST)
        port.server.handle_exit(15, None)
        time.sleep(0.2)
        engine.gate.set()
        stream.read()
    assert stream.text == ANSWER and stream.is_done


class Unsure:
    """A router that reads the answer."""

    def screen(self, asked: Asked) -> Decision | None:
        """Ask the student."""
        return None

    def decide(self, asked: Asked, answer: Answer) -> Decision:
        """Abstain."""
        return Decision("abstain", reason="it is not sure")


def test_nothing_is_sent_before_the_end_where_the_whole_answer_decides(port: Port, engine: Stepper) -> None:
    service = port.app.service
    [unit] = service.target.units.values()
    assert service.streams(unit)
    for changed in ({"lenient_json": True}, {"supervise": "process"}):  # a part of the answer is taken away
        assert not service.streams(unit.model_copy(update=changed))
    service.router = Unsure()
    with asked(port) as response:
        stream = Stream(response)
        stream.read()
    assert stream.text == "" and stream.is_done and engine.wanted[-1] is False


def test_an_engine_in_a_process_of_its_own_gives_what_grows() -> None:
    request, sampling = Request(ASK["messages"], 0, 0.0), Sampling(max_tokens=64)
    engine = EngineProcess(Stepper, 4).ready()
    try:
        engine.add(Arrived("one", request, sampling, grows=True))
        told: list[Done | Grown] = []
        while not (told and isinstance(told[-1], Done)):
            told += engine.step()
        *texts, last = [each.text if isinstance(each, Grown) else each.completion.text for each in told]
        assert len(texts) > 3 and texts == sorted(set(texts), key=len) and last == ANSWER
        assert all(ANSWER.startswith(text) for text in texts)
        assert engine.complete([request], sampling)[0].text == ANSWER
    finally:
        engine.close()
