"""A server that refuses every request stops the run at the first one, in its own words; the mended server then answers all."""

from collections.abc import Iterator
from typing import Any

import pytest

from engine.contract.models import EndpointModel, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference import endpoint, sending
from engine.inference.engine import Request
from tests.refusing_server import ANSWER, EVERY_REQUEST, Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sending, "TURNED_AWAY_SECONDS", 0.5)
    monkeypatch.setattr(endpoint, "PREFLIGHT_SECONDS", 0.5)
    with Server() as running:
        yield running
        running.shutdown()


def engine(server: Server, **model: Any) -> endpoint.EndpointEngine:
    return endpoint.EndpointEngine(EndpointModel(type="endpoint", url=server.url, path="m", **model), Pool(), None)


def requests(count: int) -> list[Request]:
    schema = {"type": "object"}
    return [Request([{"role": "user", "content": f"hello {number}"}], 1, 0.0, schema) for number in range(count)]


@pytest.mark.parametrize(("case", "count"), [*((case, 20) for case in EVERY_REQUEST), ("400", 1)])
def test_a_server_that_refuses_everything_stops_the_run_and_once_mended_answers_all(server: Server, case: str, count: int) -> None:
    server.status, server.body = EVERY_REQUEST[case]
    asked = engine(server)
    words = {"413": "nginx", "422": "unprocessable", "200 html": "no chat completion"}.get(case)
    words = words or server.body["error"]["message"]  # type: ignore[index]
    with pytest.raises(ModelError, match=rf"{asked.model.url}, model 'm': the server refuses every request(.|\n)*{words}") as stop:
        asked.complete(requests(count), Sampling())
    assert "path: m" in str(stop.value) or case in ("402", "429")
    assert "\n\n" not in str(stop.value)  # the command line reads a worker's message up to an empty line
    prompts = {body["messages"][0]["content"] for body in server.bodies}
    assert prompts == {"hello 0", endpoint.PROBE[0]["content"]}  # one row and the probe, no batch
    server.status, server.body = 200, ANSWER
    assert all(row.text == "yes" and not row.retryable for row in asked.complete(requests(count), Sampling()))


def test_a_judge_behind_a_server_that_refuses_everything_stops_the_run(server: Server) -> None:
    server.status, server.body = EVERY_REQUEST["400"]
    with pytest.raises(ModelError, match="the deployment is being retired"):
        engine(server).choice_probs([request.chat for request in requests(9)], ["1", "2"])
    server.status, server.body = 200, ANSWER
    with pytest.raises(ModelError, match="without log probabilities, which a judge needs"):
        engine(server).choice_probs([request.chat for request in requests(9)], ["1", "2"])


@pytest.mark.parametrize(
    ("rejects", "change"),
    [
        (["seed"], {"omit": ["seed"]}),
        (["logprobs"], {"logprobs": False}),
        (["response_format"], {"omit": ["response_format"]}),
        (["max_tokens"], {"rename": {"max_tokens": "max_completion_tokens"}}),
        (
            ["max_tokens", "seed", "logprobs"],
            {"rename": {"max_tokens": "max_completion_tokens"}, "omit": ["seed"], "logprobs": False},
        ),
    ],
)
def test_parameters_that_the_server_does_not_take_are_named_with_the_change_that_helps(
    server: Server, rejects: list[str], change: dict[str, Any]
) -> None:
    server.rejects = tuple(rejects)
    with pytest.raises(ModelError) as stop:
        engine(server).complete(requests(20), Sampling(max_tokens=9))
    message = str(stop.value)
    assert f"It does not take {', '.join(rejects)}." in message and "teachers.models.N.model" in message
    for advice in ("rename: {max_tokens: max_completion_tokens}", "omit: [seed]", "omit: [response_format]", "logprobs: false"):
        key = advice.split(":")[0]
        assert (advice in message) == (key in change and (key != "omit" or change["omit"][0] in advice))
    server.bodies.clear()
    assert all(row.text == "yes" for row in engine(server, **change).complete(requests(20), Sampling(max_tokens=9)))
    assert len(server.bodies) == 20
    assert all(body.get("max_completion_tokens", body.get("max_tokens")) == 9 for body in server.bodies)


def test_rows_without_a_schema_do_not_hide_that_the_server_takes_none(server: Server) -> None:
    server.rejects = ("response_format",)
    plain = [request._replace(json_schema=None) for request in requests(3)]
    with pytest.raises(ModelError, match="It does not take response_format"):
        engine(server).complete([*plain, *requests(3)], Sampling())


@pytest.mark.parametrize(
    ("message", "finish_reason", "text", "tokens_out"),
    [
        ({"message": {"content": "yes"}, "finish_reason": None}, "stop", "yes", 1),
        ({"message": {"content": "yes"}, "finish_reason": "eos_token"}, "stop", "yes", 1),
        ({"message": {"content": "half"}, "finish_reason": "error"}, "error", "half", 1),
        ({"message": {"content": None}, "finish_reason": None}, "error", "", 1),
        ({"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}, "refused", "I cannot.", 1),
        ({"message": {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "yes"}]}}, "stop", "yes", 1),
    ],
)
def test_variants_of_a_reply_are_read(server: Server, message: Any, finish_reason: str, text: str, tokens_out: int) -> None:
    server.body = {**ANSWER, "choices": [message]}
    [row] = engine(server).complete(requests(1), Sampling())
    assert (row.finish_reason, row.text, row.tokens_out, row.retryable) == (finish_reason, text, tokens_out, False)
