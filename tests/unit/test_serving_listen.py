"""The open port: slow, many and broken connections, and a drain, over real sockets."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving_world import Standin, app_of, write_release

from engine.serving.app import App
from engine.serving.body import Limits
from engine.serving.deployment import load
from engine.serving.listen import Address, Server, settings
from engine.storage.folder import Folder

LIMITS = Limits(head_seconds=0.5, body_seconds=0.5, connections=20, deadline=5)


class Port:
    """A server on a port of the loopback, in a thread."""

    def __init__(self, release: Path, engine: Standin) -> None:
        self.app: App = app_of(load(Folder(str(release))), engine, limits=LIMITS, at_once=2)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.server = Server(settings(self.app, Address(port=self.port)), self.app)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        until = time.monotonic() + 10
        while not self.app.service.worker.is_ready and time.monotonic() < until:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.handle_exit(15, None)
        self.thread.join(30)
        assert not self.thread.is_alive()

    def connect(self, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(data)
        return connection

    def ask(self, data: bytes) -> tuple[int, dict[str, Any]]:
        with self.connect(data) as connection:
            return reply(connection)

    def task(self, text: str = "three chairs") -> tuple[int, dict[str, Any]]:
        return self.ask(request(json.dumps({"text": text}).encode()))


def request(body: bytes) -> bytes:
    head = f"POST /v1/tasks/order HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode() + body


def reply(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), None
        )
        if length is not None and len(body) >= length:
            break
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
def engine() -> Standin:
    return Standin()


@pytest.fixture
def port(tmp_path: Path, engine: Standin) -> Iterator[Port]:
    port = Port(write_release(tmp_path / "release"), engine)
    yield port
    engine.gate.set()
    port.stop()


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
