"""An object in a process of its own: a call that exceeds its limits ends that process, not the caller."""

import faulthandler
import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import psutil

from engine import errors

MIB = 2**20


class CallLimits(NamedTuple):
    """Resources that one call may use."""

    seconds: float
    memory_mib: int
    """Address space, in addition to what the process has once the object is built."""


class Service(Protocol):
    """The object in the worker process."""

    description: str

    def __call__(self, argument: str) -> Any:
        """Return a JSON-serialisable value. It may raise a RayleighError, and nothing else."""
        ...


class Exceeded(Exception):
    """A call exceeded its limits; the next call starts a new process."""


class WorkerProcess:
    """Calls the object that `build` returns, in another process, which is started again after a call that ended it."""

    def __init__(self, build: Callable[[], Service], limits: CallLimits) -> None:
        """Start the process. Raises the RayleighError that `build` raises there."""
        self.build, self.limits = build, limits
        self.description = self._start()

    def __call__(self, argument: str) -> Any:
        """Return the object's result for `argument`, as decoded from JSON.

        Raises:
            Exceeded: the call took more than the limits.
            RayleighError: as it was raised in the process.
        """
        try:
            if not self.process.is_alive():
                self._start()
            self.connection.send_bytes(argument.encode("utf-8", "replace"))
            return self._receive()
        except (EOFError, OSError):
            self.process.join()
            raise Exceeded(f"took more than {self.limits.seconds:g} seconds or {self.limits.memory_mib} MiB") from None

    def _start(self) -> str:
        """Start the process; return the object's description."""
        context = multiprocessing.get_context("spawn")  # a fork would copy locked locks of the threads of a model in this process
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.build, self.limits), daemon=True)
        self.process.start()
        theirs.close()  # so that reading fails when the process ends
        return self._receive()

    def _receive(self) -> Any:
        message = json.loads(self.connection.recv_bytes())
        if "error" in message:
            raise getattr(errors, message["kind"])(message["error"])
        return message["result"]


def _serve(connection: Connection, build: Callable[[], Service], limits: CallLimits) -> None:
    """Answer calls until the caller closes the connection. The time limit is kept here, so that it holds if the caller dies."""
    try:
        service = build()
        _send(connection, service.description)
        address_space = psutil.Process().memory_info().vms + limits.memory_mib * MIB
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        with open(os.devnull, "w") as devnull:
            while True:
                argument = connection.recv_bytes().decode()
                faulthandler.dump_traceback_later(limits.seconds, exit=True, file=devnull)
                result = service(argument)
                faulthandler.cancel_dump_traceback_later()
                _send(connection, result)
    except errors.RayleighError as error:
        connection.send_bytes(json.dumps({"error": str(error), "kind": type(error).__name__}).encode())
    except EOFError:
        return


def _send(connection: Connection, result: Any) -> None:
    connection.send_bytes(json.dumps({"result": result}).encode())
