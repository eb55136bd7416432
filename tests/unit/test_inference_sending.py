"""How requests are sent to a server: pauses, patience, deadlines, and what a run does where a server takes some of its texts only.

The other rules, and replies of all kinds, are in tests/line/test_inference_endpoint.py and test_refusals_by_status.py.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest

from engine.contract.models import EndpointModel, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference import sending
from engine.inference.aimd import AimdLimiter
from engine.inference.endpoint import EndpointEngine
from engine.inference.engine import Request
from engine.inference.refusal import Refusal
from engine.inference.sending import Kind, Sender
from tests.refusing_server import Server

KIND = Kind("/chat/completions", lambda content, _: content.decode())


class Time:
    """Stands in for asyncio in `sending`: sleeps take no time, and end `late` seconds after they should."""

    def __init__(self) -> None:
        self.now, self.late, self.waits = 0.0, 0.0, list[float]()

    def get_running_loop(self) -> "Time":
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds + self.late

    @asynccontextmanager
    async def timeout_at(self, deadline: float) -> AsyncIterator[None]:
        if self.now >= deadline:
            raise TimeoutError
        yield


class Client:
    """Gives the replies (status, headers) in turn, the last one again and again."""

    def __init__(self, *replies: tuple[int, dict[str, str]]) -> None:
        self.replies = [*replies]

    async def post(self, *_: Any, **__: Any) -> httpx.Response:
        status, headers = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        reply = httpx.Response(status, headers=headers, text="the quota is used up", request=httpx.Request("POST", "http://h"))
        if status != 200:
            raise openai.APIStatusError("no", response=reply, body={"message": "the quota is used up"})
        return reply


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(sending, "asyncio", found)
    return found


def send(client: Any, patience: float = sending.PREFLIGHT_SECONDS, **model: Any) -> str | Refusal:
    sender = Sender(EndpointModel(type="endpoint", url="http://h/v1", path="m", **model), "none", AimdLimiter(1))
    return asyncio.run(sender(client, KIND, {}, patience))


@pytest.mark.parametrize("pause", [45, 60, 200])
def test_pause_that_a_server_names_is_waited_for_from_the_first_request_on(time: Time, pause: int) -> None:
    assert send(Client((429, {"retry-after": str(pause)}), (200, {}))) == "the quota is used up"
    assert [pause <= wait <= pause + 1 for wait in time.waits] == [True]


def test_server_that_turns_the_first_request_away_has_more_than_a_minute(time: Time) -> None:
    turned_away = send(Client((429, {})))
    assert isinstance(turned_away, Refusal) and turned_away.status == 429 and 74 < time.now <= 75
    failing = send(Client((500, {})), retries=99)
    assert isinstance(failing, Refusal) and failing.status == 500 and 74 + 39 < time.now < 75 + 41


def test_probe_without_patience_is_sent_once(time: Time) -> None:
    assert isinstance(send(Client((429, {"retry-after": "1"}), (200, {})), patience=0.0), Refusal)
    assert time.waits == []


def test_pause_of_no_seconds_is_a_short_one_of_changing_length(time: Time) -> None:
    assert send(Client(*[(429, {"retry-after": "0"})] * 9, (200, {}))) == "the quota is used up"
    assert min(time.waits) > 0.1 and max(time.waits) < 1 and len(set(time.waits)) == 9


def test_pause_beyond_the_deadline_is_not_waited_for_in_full(time: Time) -> None:
    assert send(Client((429, {"retry-after": "86400"}), (200, {})), deadline_seconds=100) == "the quota is used up"
    assert max(time.waits) < 31


def test_pause_until_a_date_is_waited_for(time: Time) -> None:
    headers = {"date": "Wed, 21 Oct 2026 07:27:18 GMT", "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert send(Client((503, headers), (503, {"retry-after": "soon"}), (200, {})), patience=99) == "the quota is used up"
    assert 42 <= time.waits[0] <= 43 and time.waits[1] < 2


def test_words_of_the_server_are_kept_at_the_deadline(time: Time) -> None:
    time.late = 400
    late = send(Client((429, {})))
    assert isinstance(late, Refusal) and late.status == 429 and late.retryable and not late.may_pass
    assert "the quota is used up (asked 1 times, no answer within 300 s)" in str(late)


def test_wait_has_a_longest_however_often_a_request_was_sent(time: Time) -> None:
    assert isinstance(send(Client((429, {})), patience=1e9, deadline_seconds=60_000), Refusal)
    assert len(time.waits) > 1100 and max(time.waits) <= 30


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    with Server() as running:
        yield running
        running.shutdown()


def ask(asked: EndpointEngine, *texts: str) -> list[Any]:
    return asked.complete([Request([{"role": "user", "content": text}], 1, 0.0) for text in texts], Sampling())


def engine(server: Server, **model: Any) -> EndpointEngine:
    return EndpointEngine(EndpointModel(type="endpoint", url=server.url, path="m", retries=0, **model), Pool(), None)


def test_texts_that_a_server_does_not_take_stop_no_run(server: Server) -> None:
    resumed = engine(server)  # such as after a kill: what was answered is not asked again
    assert [row.retryable for row in ask(resumed, "bad 1", "bad 2", "bad 3")] == [True] * 3
    assert [row.retryable for row in ask(resumed, "bad 4", "bad 5")] == [True] * 2
    for number in range(7):
        assert ask(resumed, f"bad {number}")[0].retryable
    [answered] = ask(resumed, "fine")
    assert answered.text == "yes"


@pytest.mark.parametrize("texts", [["bad 1", "bad 2"], ["bad 1"]])
def test_server_that_answers_no_probe_either_stops_the_run(server: Server, texts: list[str]) -> None:
    asked = engine(server)
    ask(asked, "fine")
    server.status, server.body = 503, {"error": {"message": "upstream is gone"}}
    with pytest.raises(ModelError, match=r"the server answered none of \d requests. It says: 503 .*upstream is gone"):
        for _ in range(3):
            ask(asked, *texts)


@pytest.mark.parametrize("given", [{}, {"content": []}, {"content": None}])
def test_server_without_log_probabilities_cannot_judge_even_if_it_gives_the_key(server: Server, given: Any) -> None:
    server.body = {"choices": [{"message": {"content": "1"}, "finish_reason": "stop", "logprobs": given}]}
    with pytest.raises(ModelError, match="without log probabilities, which a judge needs"):
        engine(server).choice_probs([[{"role": "user", "content": "x"}]], ["1", "2"])
