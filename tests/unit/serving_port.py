"""A server over a stand-in of the engine, on a port of the loopback."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving_world import Standin, app_of, write_release

from engine.serving.app import App
from engine.serving.body import Limits
from engine.serving.deployment import load
from engine.serving.listen import Address, Server, settings
from engine.storage.folder import Folder

LIMITS = Limits(head_seconds=0.5, body_seconds=0.5, connections=20, deadline=5)


class Port:
    """A server on a port of the loopback, in a thread."""

    def __init__(self, release: Path, engine: Standin, **given: Any) -> None:
        """`given`: see `app_of`."""
        self.app: App = app_of(load(Folder(str(release))), engine, limits=LIMITS, at_once=2, **given)
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


@contextmanager
def listening(folder: Path, engine: Standin, **given: Any) -> Iterator[Port]:
    """Serve a release in `folder`; leaving drains."""
    port = Port(write_release(folder / "release"), engine, **given)
    try:
        yield port
    finally:
        engine.gate.set()
        port.stop()
