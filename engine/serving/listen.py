"""uvicorn, with what a server on an open port needs besides: a time for a request's head, a limit of connections, a drain."""

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.serving.api_error import ApiError
from engine.serving.app import App
from engine.serving.body import Limits

log = logging.getLogger(__name__)

KEEP_ALIVE = 30  # seconds that an idle connection stays open
HEAD_BYTES = 64 * 1024  # of a request's line and headers
LINGER = 2.0  # seconds that an ended connection is read on, so that its error reaches the caller
MARGIN = 5.0  # seconds, beyond the deadline, for replies to leave when the server stops


class Address(NamedTuple):
    """Where a server listens."""

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def url(self) -> str:
        """The address as a caller writes it: one of IPv6 stands in brackets."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Config(uvicorn.Config):
    """uvicorn's settings and our limits."""

    def __init__(self, limits: Limits, app: Any, **given: Any) -> None:
        super().__init__(app, **given)
        self.limits = limits


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a time and a size for the head of a request, and a limit of open connections.

    A reply may come before the whole request, as to one that is too long. What is left of that is read and thrown away before the
    connection closes, for a while: to close it with unread data would reset it, and the caller would lose the reply (RFC 9112,
    section 9.6). Connections that are ended so do not count for the limit.
    """

    config: "Config"
    head_timer: asyncio.TimerHandle | None = None
    body_timer: asyncio.TimerHandle | None = None
    head_bytes = 0
    is_receiving = is_ending = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        connections = self.config.limits.connections
        if len(self.connections) > connections and self._open() > connections:
            self._end(ApiError(503, "too_many_connections", f"More than {connections} connections are open.", retry_after=1))
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        self._body_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_ending:
            return
        if self.head_timer is not None:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES + len(data):
                self._end(ApiError(431, "head_too_large", f"The head of the request is longer than {HEAD_BYTES} bytes."))
        if not self.is_ending and not self.transport.is_closing():
            super().data_received(data)

    def on_message_begin(self) -> None:
        if self.head_timer is None:  # a further request of the connection
            self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        self.is_receiving = True
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = cast(asyncio.Transport, Reading(self))

    def on_message_complete(self) -> None:
        self._body_is_there()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.is_receiving and self.body_timer is None:
            self.body_timer = self.loop.call_later(self.config.limits.body_seconds, self.transport.close)

    def close_when_read(self) -> None:
        """Close the connection, at once if the whole request was read, else after the rest of it."""
        if not self.is_receiving or not self.transport.can_write_eof():
            self.transport.close()
        elif not self.is_ending:
            self.is_ending = True
            self.transport.write_eof()

    def send_400_response(self, msg: str) -> None:
        self._end(ApiError(400, "invalid_http", msg))

    def _open(self) -> int:
        return sum(not cast(Protocol, each).is_ending for each in self.connections)

    def _wait_for_head(self) -> None:
        head_seconds = self.config.limits.head_seconds
        late = ApiError(408, "request_timeout", f"The head of the request did not arrive within {head_seconds:g} s.")
        self.head_bytes = 0
        self.head_timer = self.loop.call_later(head_seconds, self._end, late)

    def _head_is_there(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _body_is_there(self) -> None:
        self.is_receiving = False
        if self.body_timer is not None:
            self.body_timer.cancel()
            self.body_timer = None

    def _end(self, error: ApiError) -> None:
        """Write an error and close the connection, after what the caller still sends."""
        self._head_is_there()
        if self.is_ending or self.transport.is_closing():
            return
        self.is_ending = True
        body = json.dumps(error.body).encode()
        head = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **error.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        with suppress(OSError):
            self.transport.write(f"HTTP/1.1 {error.status} Error\r\n{lines}\r\n".encode() + body)
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._body_is_there()
        self.body_timer = self.loop.call_later(LINGER, self.transport.close)


class Reading:
    """The transport of a protocol, but for the way in which it closes."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self.protocol.transport, name)

    def close(self) -> None:
        """Close the connection after the rest of the request."""
        self.protocol.close_when_read()


class Server(uvicorn.Server):
    """Tells the application as soon as it has to stop, so that it is not ready any more while it drains."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self.application = app

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to drain."""
        self.application.is_draining = True
        super().handle_exit(sig, frame)


def listen(app: App, address: Address, *, started: Callable[[int], None] = lambda port: None) -> BaseException | None:
    """Serve `app` until SIGTERM or SIGINT: all requests that were taken are answered. `started` is called with the port.

    Returns why the engine failed; None if it did not.

    Raises:
        OSError: the address cannot be listened on.
        KeyboardInterrupt: stopped by SIGINT.
    """
    config = settings(app, address)
    server = Server(config, app)

    def stop(error: BaseException) -> None:
        server.should_exit = True

    app.watch(stop)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.create_server((address.host, address.port), family=family, backlog=config.backlog)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)  # uvicorn raises it again once it has drained
    try:
        started(listener.getsockname()[1])
        server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
    return app.service.fault


def settings(app: App, address: Address) -> Config:
    """Return uvicorn's settings."""
    limits = app.limits
    return Config(
        limits,
        app.asgi(),
        host=address.host,
        port=address.port,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(limits.deadline + MARGIN),
        backlog=2048,
    )
