"""Something in a process of its own: a call that takes too long or too much memory ends that process, and nothing else."""

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
    """What one call may cost."""

    seconds: float
    memory_mib: int
    """Beyond what is held once it is built."""


class Served(Protocol):
    """What lives apart."""

    description: str

    def __call__(self, argument: str) -> Any:
        """Return something that JSON can hold; raise nothing but a RayleighError."""
        ...


class Exceeded(Exception):
    """A call went beyond its limits; the next one finds a new process."""


class WorkerProcess:
    """Calls what `build` makes elsewhere. Its process is started again after a call that ended it."""

    def __init__(self, build: Callable[[], Served], limits: CallLimits) -> None:
        """Raises the RayleighError that `build` raises."""
        self.build, self.limits = build, limits
        self.description = self._start()

    def __call__(self, argument: str) -> Any:
        """Return what is said of `argument`, as JSON holds it.

        Raises:
            Exceeded: it took more than the limits.
            RayleighError: as it was raised there.
        """
        try:
            if not self.process.is_alive():
                self._start()
            self.line.send_bytes(argument.encode("utf-8", "replace"))
            return self._hear()
        except (EOFError, OSError):
            self.process.join()
            raise Exceeded(f"took more than {self.limits.seconds:g} seconds or {self.limits.memory_mib} MiB") from None

    def _start(self) -> str:
        """Start the process; return the description of what lives there."""
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of whatever model lives here
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.build, self.limits), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the line
        return self._hear()

    def _hear(self) -> Any:
        said = json.loads(self.line.recv_bytes())
        if "error" in said:
            raise getattr(errors, said["kind"])(said["error"])
        return said["said"]


def _serve(line: Connection, build: Callable[[], Served], limits: CallLimits) -> None:
    """Answer calls until the other end is gone. The watch is kept here, so that it holds even when nobody waits any more."""
    try:
        served = build()
        _say(line, served.description)
        most = psutil.Process().memory_info().vms + limits.memory_mib * MIB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        with open(os.devnull, "w") as nowhere:
            while True:
                argument = line.recv_bytes().decode()
                faulthandler.dump_traceback_later(limits.seconds, exit=True, file=nowhere)
                result = served(argument)
                faulthandler.cancel_dump_traceback_later()
                _say(line, result)
    except errors.RayleighError as error:
        line.send_bytes(json.dumps({"error": str(error), "kind": type(error).__name__}).encode())
    except EOFError:
        return


def _say(line: Connection, said: Any) -> None:
    line.send_bytes(json.dumps({"said": said}).encode())
