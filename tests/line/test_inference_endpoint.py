"""The endpoint engine and a server on the loopback that misbehaves for some requests, as their text says."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engine.contract.models import EndpointModel, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference import endpoint, sending
from engine.inference.aimd import AimdLimiter
from engine.inference.engine import Lost, Request
from engine.inference.identity import identity


def message(text: str, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 7, "completion_tokens": len(text.split())}
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}], "usage": usage}


class Server(ThreadingHTTPServer):
    """Repeats the last message; the message itself says what to do wrong, and how often: `429 2 hello`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tries: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.in_flight = self.most = 0
        self.lock = threading.Lock()
        self.room = 1000  # more requests at once are turned away
        self.is_away = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server, text = self.server, body["messages"][-1]["content"]
        with server.lock:
            server.bodies.append(body)
            server.keys.add(self.headers["authorization"])
            server.tries[text] += 1
            tried = server.tries[text]
            server.in_flight += 1
            crowded = server.in_flight > server.room
            server.most = max(server.most, server.in_flight)
        try:
            how, _, rest = text.partition(" ")
            times = int(rest.split()[0]) if rest[:1].isdigit() else 0
            self.misbehave("500" if server.is_away else "429" if crowded else how if tried <= times else "", text)
        finally:
            with server.lock:
                server.in_flight -= 1

    def misbehave(self, how: str, text: str) -> None:
        if how.isdigit():
            self.reply(int(how), {"error": {"message": "maximum context length" if how == "400" else f"no: {text}"}})
        elif how == "cut":
            self.connection.close()
        elif how == "slow":
            time.sleep(30)
        elif how == "garbage":
            self.reply(200, b'{"choices": [')
        elif how == "none":
            self.reply(200, {"choices": []})
        elif how == "two":
            self.reply(200, {"choices": message("a")["choices"] * 2})
        elif how == "scored":
            self.reply(200, message(text, logprobs=SCORES[int(text.split()[-1])]))
        elif how == "filtered":
            self.reply(200, message("", finish_reason="content_filter"))
        else:
            time.sleep(0.4 if how == "doze" else 0.02)
            tokens = [{"token": text, "logprob": -0.5, "top_logprobs": TOP}]
            self.reply(200, message(text, logprobs={"content": tokens}))

    def reply(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


TOP = [{"token": "5", "logprob": -0.7}, {"token": " 1", "logprob": -2.1}, {"token": "x", "logprob": -3.0}]


SCORES: list[Any] = [
    {"content": [{"logprob": -0.5}]},
    {"content": [{"token": "5", "logprob": "sure", "top_logprobs": TOP}]},
    {"content": [{"token": "5", "logprob": float("nan"), "top_logprobs": TOP}]},
    {"content": [{"token": "5", "logprob": -0.5, "top_logprobs": [{"tok": "5", "logprob": -0.7}]}]},
    {"content": [{"token": "5", "logprob": -0.5, "top_logprobs": [{"token": None, "logprob": None}]}]},
    {"content": ["5"]},
    {"content": {"5": -0.5}},
    ["5"],
    None,
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    found = Server()
    threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def engine(server: Server, *, most: int = 64, **more: Any) -> endpoint.EndpointEngine:
    given = {"deadline_seconds": 5.0, **more}
    return endpoint.EndpointEngine(EndpointModel(type="endpoint", url=server.url, path="m", **given), Pool(max_num_seqs=most), None)


def ask(asked: endpoint.EndpointEngine, *texts: str) -> list[Any]:
    return asked.complete([Request([{"role": "user", "content": text}], 1, 0.0) for text in texts], Sampling(max_tokens=9))


def test_answers_come_in_order_with_tokens_and_confidence(server: Server) -> None:
    said = ask(engine(server), *(f"hello {number}" for number in range(30)))
    assert [one.text for one in said] == [f"hello {number}" for number in range(30)]
    assert {(one.finish_reason, one.tokens_in, one.tokens_out, one.logprob) for one in said} == {("stop", 7, 2, -0.5)}


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "garbage", "none", "two"])
def test_what_is_turned_away_lost_or_garbled_is_asked_again(server: Server, fault: str) -> None:
    said = ask(engine(server), f"{fault} 2 hello", "fine")
    assert [one.text for one in said] == [f"{fault} 2 hello", "fine"]
    assert server.tries == {f"{fault} 2 hello": 3, "fine": 1}


def test_retries_end_at_their_cap_and_the_row_is_lost_alone(server: Server) -> None:
    lost, fine = ask(engine(server, retries=2), "500 99 hello", "fine")
    assert (lost.finish_reason, lost.retryable, fine.text) == ("error", True, "fine")
    assert "asked 3 times" in lost.error and server.tries["500 99 hello"] == 3


@pytest.mark.parametrize("case", range(len(SCORES)))
def test_an_answer_with_garbled_probabilities_is_kept_without_them_and_gives_no_mark(server: Server, case: int) -> None:
    asked = engine(server)
    garbled, fine = ask(asked, f"scored 9 {case}", "fine")
    assert (garbled.text, garbled.finish_reason, garbled.logprob, fine.logprob) == (f"scored 9 {case}", "stop", None, -0.5)
    chats = [[{"role": "user", "content": text}] for text in (f"scored 9 {case}", "fine")]
    unmarked, marked = asked.choice_probs(chats, ["1", "5"])
    assert unmarked is None and isinstance(marked, list) and sum(marked) == pytest.approx(1)
    assert max(server.tries.values()) == 2  # one for the answer, one for the mark


def test_a_deadline_holds_for_all_attempts_together(server: Server) -> None:
    started = time.monotonic()
    lost, fine = ask(engine(server, deadline_seconds=3), "slow 99 hello", "fine")
    assert (lost.finish_reason, lost.retryable, fine.text) == ("error", True, "fine")
    assert time.monotonic() - started < 25


def test_only_what_the_server_blames_on_the_text_is_a_result(server: Server) -> None:
    too_long, unknown, filtered, fine = ask(engine(server), "400 99 hello", "422 99 hello", "filtered 9 hello", "fine")
    assert [row.finish_reason for row in (too_long, unknown, filtered, fine)] == ["too_long", "error", "refused", "stop"]
    assert [row.retryable for row in (too_long, unknown, filtered, fine)] == [False, True, False, False]
    assert max(server.tries.values()) == 1


def test_one_refusal_among_answers_costs_no_other_row_its_answer(server: Server) -> None:
    refused, fine = ask(engine(server), "403 99 hello", "fine")
    assert (refused.finish_reason, refused.retryable, fine.text) == ("error", True, "fine")


def test_a_text_that_cannot_be_sent_costs_no_other_row_its_answer(server: Server) -> None:
    odd, fine = ask(engine(server), "half a pair \ud800", "fine")
    assert (odd.finish_reason, odd.retryable, fine.text) == ("error", True, "fine")
    assert odd.error.startswith("400 not sent: UnicodeEncodeError")


def test_one_lost_request_of_a_server_that_has_answered_is_the_row_s_bad_luck(server: Server) -> None:
    asked = engine(server, retries=0)
    ask(asked, "fine")
    assert ask(asked, "500 9 a")[0].retryable


def test_turned_away_costs_nothing_and_is_asked_until_the_deadline(server: Server) -> None:
    assert ask(engine(server, retries=0), "429 6 hello")[0].finish_reason == "stop"
    lost, _ = ask(engine(server, retries=0, deadline_seconds=3), "429 9999 hello", "fine")
    assert lost.retryable


def test_waiting_for_a_place_is_not_held_against_a_request(server: Server) -> None:
    asked = engine(server, most=1, deadline_seconds=3)
    assert all(one.finish_reason == "stop" for one in ask(asked, *(["doze"] * 9)))


def test_a_key_that_the_server_repeats_is_written_nowhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-1")
    lost, _ = ask(engine(server, key_env="MY_KEY", retries=0), "500 9 secret-1", "fine")
    assert "InternalServerError" in lost.error and "secret-1" not in lost.error


def test_without_a_key_an_error_is_told_as_it_is(server: Server) -> None:
    lost, _ = ask(engine(server, retries=0), "500 9 none", "fine")
    assert "no: 500 9 none" in lost.error


def test_a_server_that_no_longer_answers_stops_the_run(server: Server) -> None:
    asked = engine(server, retries=0)
    ask(asked, "fine")
    assert [row.retryable for row in ask(asked, "500 9 a", "500 9 b")] == [True, True]  # but a probe is answered
    server.is_away = True
    with pytest.raises(ModelError, match=r"answered none of 2 requests. It says: 500 .*no: Say OK"):
        ask(asked, "500 9 a", "500 9 b")


def test_single_rows_without_an_answer_stop_the_run_after_three(server: Server) -> None:
    asked = engine(server, retries=0)
    ask(asked, "fine")
    server.is_away = True
    assert ask(asked, "403 9 a")[0].retryable and ask(asked, "403 9 b")[0].retryable
    with pytest.raises(ModelError, match="answered none"):
        ask(asked, "403 9 c")


def test_requests_in_flight_follow_what_the_server_bears(server: Server) -> None:
    server.room = 5
    asked = engine(server, most=64, retries=20)
    said = ask(asked, *(f"hello {number}" for number in range(120)))
    assert all(one.finish_reason == "stop" for one in said)
    turned_away = sum(server.tries.values()) - 120
    assert 0 < turned_away < 120  # it adapts: at a fixed 64 nearly all would be
    assert asked.limiter.limit < 16


def test_limit_grows_by_one_a_round_and_halves_once_a_crowd() -> None:
    limiter = AimdLimiter(maximum=100)
    for _ in range(8):
        limiter.on_success()
    assert 8.9 < limiter.limit < 9.1
    since = limiter.decreases
    for _ in range(8):
        limiter.on_overload(since)
    assert 4.4 < limiter.limit < 4.6
    for _ in range(9):
        limiter.on_overload(limiter.decreases)
    assert limiter.limit == 1


def test_schema_and_seed_are_sent(server: Server) -> None:
    schema = {"type": "object"}
    engine(server).complete([Request([{"role": "user", "content": "x"}], 7, 0.7, schema)], Sampling(top_p=0.9, max_tokens=3))
    [body] = server.bodies
    assert (body["model"], body["seed"], body["temperature"], body["top_p"], body["max_tokens"]) == ("m", 7, 0.7, 0.9, 3)
    assert body["response_format"]["json_schema"]["schema"] == schema


def test_key_comes_from_the_environment_and_stays_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-1")
    asked = engine(server, key_env="MY_KEY")
    ask(asked, "x")
    assert server.keys == {"Bearer secret-1"}
    assert "secret-1" not in asked.model.model_dump_json() + asked.identity
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ModelError, match="MY_KEY holds no key"):
        engine(server, key_env="MY_KEY")


def test_choices_share_what_the_server_gives_them(server: Server) -> None:
    [shares] = engine(server).choice_probs([[{"role": "user", "content": "x"}]], ["1", "3", "5"])
    assert isinstance(shares, list) and shares == pytest.approx([0.1978, 0.0, 0.8022], abs=1e-3)


def test_question_that_is_lost_among_answered_ones_is_no_unreadable_answer(server: Server) -> None:
    chats = [[{"role": "user", "content": text}] for text in ("fine", "500 99 hello", "422 99 hello", "filtered 9 hello")]
    fine, failed, refused, filtered = engine(server, retries=1).choice_probs(chats, ["1", "5"])
    assert isinstance(fine, list) and isinstance(failed, Lost) and isinstance(refused, Lost)
    assert filtered is None  # the server blames the text: that is a result


def test_identity_is_of_the_model_not_of_the_way_to_it() -> None:
    def named(**more: Any) -> str:
        return identity(EndpointModel.model_validate({"type": "endpoint", "url": "http://a/v1", "path": "m", **more}), None)

    assert named() == named(url="http://b/v1", retries=0, deadline_seconds=1, key_env="K")
    assert len({named(), named(path="n"), named(revision="2"), named(omit=["seed"]), named(rename={"seed": "s"})}) == 5
    assert named(revision="2") == "c106f4e28366cdda5c772d844fd87663"  # as before `omit` and `rename`: paid answers hold this
