"""What `rayleigh bench serve` and `bench overload` send, against the server over a stand-in of the engine."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_port import LIMITS, Port, listening
from serving_world import ASK, Standin, write_release

from engine.errors import InputError, ModelError
from engine.serving.deployment import MANIFEST, load
from engine.storage.folder import Folder
from jobs.bench import hostile, overload, serve, serve_sides
from jobs.bench import load as load_of
from jobs.bench.load import Call, Sent, latency, send_waiting


@pytest.fixture
def engine() -> Standin:
    return Standin()


@pytest.fixture
def port(tmp_path: Path, engine: Standin) -> Iterator[Port]:
    with listening(tmp_path, engine) as port:
        yield port


def url_of(port: Port) -> str:
    return f"http://127.0.0.1:{port.port}"


def test_every_hostile_request_gets_its_error_and_the_server_goes_on(port: Port, engine: Standin) -> None:
    call = Call.of("/v1/chat/completions", ASK)
    attacks = asyncio.run(hostile.attack(url_of(port), call, 0.0))
    assert {each.name: each.statuses for each in attacks if each.unexpected or not each.sent} == {}
    assert len(attacks) > 20 and {status[0] for each in attacks for status in each.statuses} == {"2", "4"}
    assert [turn["role"] for turn in engine.requests[-1].chat] == ["system", "user"]  # the turn marks opened none
    assert port.task()[0] == 200


def test_slow_connections_are_told_so_and_requests_are_answered_afterwards(port: Port) -> None:
    found = asyncio.run(hostile.open_slowly(url_of(port), 3 * LIMITS.connections))
    assert found.opened == 60 and found.silent == 0 and set(found.statuses) == {"408", "503"}
    assert found.statuses["408"] >= LIMITS.connections and port.task()[0] == 200


def test_callers_wait_and_replies_come_in_order(port: Port) -> None:
    calls = [Call.of("/v1/tasks/order", {"text": f"{number} chairs"}) for number in range(7)]
    sent, seconds = send_waiting(url_of(port), [*calls, Call.of("/v1/tasks/none", {"text": "x"})], 3)
    assert [each.status for each in sent] == [200] * 7 + [404] and seconds >= max(each.seconds for each in sent)
    found = latency(sent[:7], seconds)
    assert found.per_second > 0 and found.p50_ms <= found.p95_ms
    with pytest.raises(ModelError, match="status 404"):
        latency(sent, seconds)


def test_a_rate_does_not_wait_for_replies(port: Port, engine: Standin) -> None:
    async def run() -> list[Sent]:
        engine.gate.clear()
        async with load_of.client_of(url_of(port), 30) as client:
            asyncio.get_running_loop().call_later(0.5, engine.gate.set)
            return await load_of.send_at_rate(client, [Call.of("/v1/tasks/order", {"text": "x"})], 200, 0.1)

    sent = asyncio.run(run())
    assert len(sent) > 8 and {each.status for each in sent} <= {200, 429, 503}  # far more than the engine's two places
    assert [each.at for each in sent] == sorted(each.at for each in sent)


def test_the_peer_gets_what_the_release_adds_to_a_request(tmp_path: Path) -> None:
    deployment = load(Folder(str(write_release(tmp_path / "release"))))
    body = json.loads(serve_sides.peer_call(deployment, "3 red chairs for ann@example.org").content)
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"] and "<EMAIL>" in body["messages"][1]["content"]
    spans = body["structured_outputs"]["json"]["properties"]["product"]["enum"]
    assert "red chairs" in spans and None in spans and body["temperature"] == 0 and body["max_tokens"] == 64
    options = serve_sides.flags({"enable_chunked_prefill": False, "enforce_eager": True, "seed": 0, "config": {"a": 1}})
    assert options == ["--no-enable-chunked-prefill", "--enforce-eager", "--seed", "0", "--config", '{"a": 1}']


def test_challenger_is_a_release_of_its_own_with_the_same_weights(tmp_path: Path) -> None:
    champion = load(Folder(str(write_release(tmp_path / "release"))))
    challenger = load(Folder(str(serve_sides.challenger_of(champion, tmp_path / "challenger"))))
    assert challenger.fingerprint != champion.fingerprint and challenger.manifest.files == champion.manifest.files
    assert (tmp_path / "challenger" / MANIFEST).exists()


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--part http2"):
        serve.bench(str(tmp_path), serve.Order(parts=["http2"]), profile="laptop")


def test_table_of_an_overload_says_what_came_back() -> None:
    memory = overload.Memory(first=900, last=905, peak=910, slope=0.1, low=-0.2, high=0.3)
    attack = hostile.Attack(name="no JSON", expected="400", sent=3, statuses={"400": 3}, unexpected=0)
    result = overload.Overload(
        capacity=20, rate=40, seconds=60, statuses={"200": 1150, "429": 1250}, served_per_second=19.2, deadline=30,
        served_p50_ms=3000, served_p95_ms=5100, refused_p95_ms=12, without_retry_after=0, memory=memory, attacks=(attack,),
        slow=hostile.SlowConnections(opened=10, statuses={"408": 10}, silent=0), after=200, exit_status=0,
    )  # fmt: skip
    text = overload.as_text(result)
    assert "200: 1150, 429: 1250" in text and "0.96 of what it can serve" in text and "+0.10 MiB a minute" in text
    assert "no JSON" in text and "afterwards a request gets 200" in text
