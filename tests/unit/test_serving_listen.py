"""The open port: slow, many and broken connections, and a drain, over real sockets."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving_port import LIMITS, Port, listening, reply, request
from serving_world import Standin


@pytest.fixture
def engine() -> Standin:
    return Standin()


@pytest.fixture
def port(tmp_path: Path, engine: Standin) -> Iterator[Port]:
    with listening(tmp_path, engine) as port:
        yield port


def test_a_head_that_does_not_arrive_ends_with_408(port: Port) -> None:
    for data in (b"", b"POST /v1/ta", b"POST /v1/tasks/order HTTP/1.1\r\nhost: x\r\n"):
        status, body = port.ask(data)
        assert (status, body["error"]["code"]) == (408, "request_timeout")
    assert port.task()[0] == 200


def test_a_body_that_does_not_arrive_ends_with_408(port: Port) -> None:
    status, body = port.ask(request(b'{"text": "three"}')[:-3])
    assert (status, body["error"]["code"]) == (408, "request_timeout")


def test_a_head_that_does_not_end_is_cut_off(port: Port) -> None:
    status, body = port.ask(b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 200_000)
    assert (status, body["error"]["code"]) == (431, "head_too_large")


def test_what_is_no_http_gets_an_error(port: Port) -> None:
    status, body = port.ask(b"\x16\x03\x01 hello\r\n\r\n")
    assert (status, body["error"]["code"]) == (400, "invalid_http")


def test_a_body_of_a_megabyte_gets_its_error(port: Port) -> None:
    status, body = port.ask(request(json.dumps({"text": "x" * (1 << 20)}).encode()))
    assert (status, body["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_caller_that_sends_on_after_its_error_has_read_it_and_is_cut_off_later(port: Port, connection: str) -> None:
    body = b"x" * (8 << 20)  # more than the system's buffers hold
    head = f"POST /v1/tasks/order HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: {connection}\r\n\r\n"
    with port.connect(head.encode()) as sender:
        time.sleep(0.2)  # the error is there long before the body
        sender.sendall(body[: 4 << 20])
        status, error = reply(sender)
        assert (status, error["error"]["code"]) == (413, "body_too_large")
        until = time.monotonic() + 20
        with pytest.raises(OSError):  # the rest does not come within body_seconds
            while time.monotonic() < until:
                sender.sendall(b"x")
                time.sleep(0.05)
    assert port.task()[0] == 200


def test_connections_beyond_the_limit_are_told_so_and_those_within_it_are_served(port: Port) -> None:
    idle = [port.connect() for _ in range(LIMITS.connections)]
    time.sleep(0.1)
    status, body = port.ask(request(b'{"text": "x"}'))
    assert (status, body["error"]["code"]) == (503, "too_many_connections")
    assert {reply(connection)[0] for connection in idle} == {408}  # each is told why it ends
    for connection in idle:
        connection.close()
    assert port.task()[0] == 200


def test_a_caller_that_is_slow_to_send_reads_why_its_connection_was_ended(port: Port) -> None:
    idle = [port.connect() for _ in range(LIMITS.connections)]
    time.sleep(0.1)
    with port.connect() as beyond:
        time.sleep(0.2)  # the server has ended the connection, and what comes now is unread
        for part in (b"POST /v1/tasks/order HTTP/1.1\r\n", b"host: x\r\n"):
            beyond.sendall(part)
            time.sleep(0.1)
        assert reply(beyond)[1]["error"]["code"] == "too_many_connections"
    for connection in idle:
        connection.close()


def test_a_stop_answers_every_request_that_was_taken(port: Port, engine: Standin) -> None:
    engine.gate.clear()
    worker = port.app.service.worker
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(port.task) for _ in range(8)]
        until = time.monotonic() + 10
        while len(worker.running) + len(worker.waiting) < 8 and time.monotonic() < until:
            time.sleep(0.01)
        threading.Timer(0.5, engine.gate.set).start()
        port.stop()
        assert [future.result()[0] for future in sent] == [200] * 8
    with pytest.raises(OSError):
        port.connect()
