"""A network between this machine's clients and a server, which a test can cut: it forwards TCP connections, or fails them."""

import socket
import struct
import threading
from contextlib import suppress
from typing import Literal

Mode = Literal["open", "refused", "silent", "torn", "busy"]
BUSY = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
VERBS = (b"GET", b"HEAD", b"PUT", b"POST", b"DELETE")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset


class Network:
    """Forwards connections to `port` of the loopback, as `mode` says.

    `refused`: nobody listens. `silent`: connections are taken, and nothing is answered. `torn`: a connection is reset in the middle
    of the first answer of more than `torn_after` bytes. `busy`: every request gets status 503. `failures`: so many connections fail
    in the chosen way, then the network is open again; None: until the mode is changed.
    """

    def __init__(self, port: int) -> None:
        self.target, self.mode, self.failures, self.torn_after = port, "open", None, 400
        self.connections = 0
        """Connections that were failed."""
        self.requests_left: int | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._changing = threading.RLock()
        self._listener: socket.socket | None = None
        self._listen(0)
        assert self._listener
        self.port = self._listener.getsockname()[1]

    def set(self, mode: Mode, failures: int | None = None) -> None:
        """Change what becomes of connections; those that are open are reset."""
        with self._changing:
            self.failures, self.mode, self.requests_left = failures, mode, None
            if mode == "refused":
                self._close()
            elif not self._listener:
                self._listen(self.port)
            with self._lock:
                live, self._sockets = self._sockets, set()
            for each in live:
                _reset(each)

    def cut_after(self, requests: int) -> None:
        """Be open for so many more requests, and then refuse everything."""
        with self._changing:
            self.set("open")
            self.requests_left = requests

    def close(self) -> None:
        """Refuse everything from now on."""
        self.set("refused")

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def _listen(self, port: int) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client, self._mode()), daemon=True).start()

    def _mode(self) -> str:
        with self._lock:
            if self.mode == "open":
                return "open"
            if self.failures is not None:
                if not self.failures:
                    self.mode = "open"
                    return "open"
                self.failures -= 1
            self.connections += 1
            return self.mode

    def _is_last(self) -> bool:
        """Count a request; return whether it is one too many, and cut the network then."""
        with self._changing:
            if self.requests_left is None:
                return False
            self.requests_left -= 1
            if self.requests_left < 0:
                self.set("refused")
                return True
            return False

    def _serve(self, client: socket.socket, mode: str) -> None:
        with self._lock:
            self._sockets.add(client)
        if mode == "silent":
            return  # `set` resets it
        with suppress(OSError):
            if mode == "busy":
                client.recv(65536)
                client.sendall(BUSY)
                client.close()
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            with self._lock:
                self._sockets.add(server)
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            _pump(server, client, self.torn_after if mode == "torn" else None)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        """Forward what a client sends; the first request too many cuts the network."""
        with suppress(OSError):
            while data := client.recv(65536):
                if data.split(b" ", 1)[0] in VERBS and self._is_last():
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


def _pump(source: socket.socket, sink: socket.socket, torn_after: int | None) -> None:
    """Forward until the end; reset both ends once an answer of more than `torn_after` bytes is half sent."""
    sent = 0
    with suppress(OSError):
        while data := source.recv(65536):
            if torn_after is not None and (sent := sent + len(data)) > torn_after:
                sink.sendall(data[: len(data) // 2])
                _reset(sink)
                _reset(source)
                return
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _reset(each: socket.socket) -> None:
    with suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        each.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        each.close()
