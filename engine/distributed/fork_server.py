"""A process that has imported what workers of Ray need, and forks itself for each one: milliseconds in place of seconds of imports.

A script of its own, started by `forks.py` with the socket on which it listens. `fork_worker.py`, which Ray runs in place of a
worker, sends it the worker's arguments, variables and file descriptors, waits, and ends with its status. A worker whose runtime
environment has variables comes from another server, started for the first such worker, which has had them since its start:
libraries read them when they are imported.

It forks while it has no thread of its own, holds no lock, and has opened nothing of Ray: the first worker's variables of Ray,
which name its raylet, are set before Ray is imported. It ends, and kills its workers, when that raylet ends, or the process that
has started it, whose pipe on its standard input closes then.
"""

import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any, NamedTuple

SIZE, DESCRIPTORS = 4, 3  # bytes of a message's length; standard input, output and error of a worker
SECONDS = 10.0  # to send a message of some KB
IMPORTS = "RAYLEIGH_IMPORTS"  # variable of a runtime environment: the modules that its workers will need
OF_RAY, RAYLET, JOB = "RAY_", "RAY_RAYLET_PID", "RAY_JOB_ID"  # variables that are read when Ray is imported
FRAMEWORK = "ray.actor"  # imported with the first worker, and all modules that are named after it
NO_JOB = "ffffffff"  # of a worker that Ray starts before it knows for whom


class Worker(NamedTuple):
    """What `fork_worker.py` asks for."""

    arguments: list[str]
    """Path of the script, and its arguments."""
    variables: dict[str, str]
    """All environment variables."""
    environment: dict[str, str]
    """Those of the runtime environment."""
    folder: str
    """Current folder."""


class Other(NamedTuple):
    """The server of a runtime environment."""

    control: socket.socket
    """Where it takes over workers."""
    process: subprocess.Popen[bytes]


class ForkServer:
    """Forks workers, and tells who asked for one how it has ended."""

    def __init__(self, modules: list[str], source: socket.socket, *, is_first: bool) -> None:
        self.modules, self.source, self.is_first = modules, source, is_first
        self.selector = selectors.DefaultSelector()
        self.selector.register(source, selectors.EVENT_READ, self._accept if is_first else self._take_over)
        if is_first:
            self.selector.register(sys.stdin, selectors.EVENT_READ, self._end)
        self.others: dict[str, Other] = {}  # runtime environment -> the server for it
        self.living: set[int] = set()
        self.forked: Worker | None = None
        self.ended = False

    def serve(self) -> Worker | None:
        """Fork until the end; return None then, and in a fork what it is to be."""
        while not (self.ended or self.forked):
            for key, _ in self.selector.select():
                key.data(key.fileobj)
                if self.ended or self.forked:
                    break
        if self.ended:
            self._end_all()
        return self.forked

    def _end_all(self) -> None:
        """End the other servers, and kill the workers."""
        for other in self.others.values():
            other.control.close()
        for pid in self.living:
            _kill_group(pid)
        for other in self.others.values():  # waited for: not every container has an init that does so
            with suppress(subprocess.TimeoutExpired):
                other.process.wait(SECONDS)

    def _accept(self, listener: socket.socket) -> None:
        asking, _ = listener.accept()
        asking.settimeout(SECONDS)
        with suppress(OSError, ValueError):
            head, descriptors, _, _ = socket.recv_fds(asking, SIZE, DESCRIPTORS)
            text = _received(asking, int.from_bytes(head, "big"))
            self._start(asking, descriptors, text)

    def _take_over(self, control: socket.socket) -> None:
        """Start a worker that the first server was asked for."""
        head, descriptors, _, _ = socket.recv_fds(control, SIZE, DESCRIPTORS + 1)
        if not head:
            self.ended = True
            return
        asking = socket.socket(fileno=descriptors[0])
        self._start(asking, descriptors[1:], _received(control, int.from_bytes(head, "big")))

    def _start(self, asking: socket.socket, descriptors: list[int], text: bytes) -> None:
        worker = Worker(**json.loads(text))
        if self.is_first and worker.environment:
            self._pass_on(worker, text, [asking.fileno(), *descriptors])
            asking.detach()
        else:
            self._fork(worker, asking, descriptors)
        if not self.forked:
            for descriptor in descriptors:
                os.close(descriptor)

    def _pass_on(self, worker: Worker, text: bytes, descriptors: list[int]) -> None:
        key = json.dumps(worker.environment, sort_keys=True)
        if key not in self.others:
            self.others[key] = _started(worker)
        control = self.others[key].control
        socket.send_fds(control, [len(text).to_bytes(SIZE, "big")], descriptors)
        control.sendall(text)
        os.close(descriptors[0])

    def _fork(self, worker: Worker, asking: socket.socket, descriptors: list[int]) -> None:
        if FRAMEWORK not in sys.modules:
            os.environ |= {name: value for name, value in worker.variables.items() if name.startswith(OF_RAY)}
            os.environ[JOB] = NO_JOB
            raylet = os.pidfd_open(int(worker.variables[RAYLET]))
            self.selector.register(raylet, selectors.EVENT_READ, self._end)
            import_framework()
            import_all(self.modules)
            require_own_ids()
        if pid := os.fork():
            self._watch(pid, asking)
            return
        _lead_group(0)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        self._close(asking)
        self.forked = worker

    def _close(self, asking: socket.socket) -> None:
        """Close, in a fork, all that the server has open."""
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
            elif key.fileobj is not sys.stdin:
                key.fileobj.close()
        for each in (self.selector, asking, *(other.control for other in self.others.values())):
            each.close()

    def _watch(self, pid: int, asking: socket.socket) -> None:
        _lead_group(pid)  # here, too: it may be killed before it does
        ended = os.pidfd_open(pid)
        self.living.add(pid)

        def tell(_: Any) -> None:
            """The worker has ended: so do its children, and the process that stands for it."""
            _, status = os.waitpid(pid, 0)
            _kill_group(pid)
            self.living.remove(pid)
            self.selector.unregister(ended)
            os.close(ended)
            with suppress(KeyError, ValueError):
                self.selector.unregister(asking)
            with suppress(OSError):
                asking.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
            asking.close()

        def kill(_: Any) -> None:
            """The process that stands for the worker was killed: so is the worker."""
            if pid in self.living:  # else `tell` came first
                self.selector.unregister(asking)
                _kill_group(pid)

        self.selector.register(ended, selectors.EVENT_READ, tell)
        self.selector.register(asking, selectors.EVENT_READ, kill)

    def _end(self, _: Any) -> None:
        self.ended = True


def import_all(modules: list[str]) -> None:
    """Import `modules`; what one raises here, a worker that needs it raises again. What is imported is never collected as garbage,
    so that forks go on to share its memory."""
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()


def import_framework() -> None:
    """Import Ray. A class that is declared as an actor draws an id, which would start Ray's generator of random numbers, and all
    forks would draw the same ids from it: here it draws from the system."""
    actor = importlib.import_module(FRAMEWORK)
    kind = actor.ActorClassID

    class Drawn:
        from_random = staticmethod(lambda: kind(os.urandom(kind.size())))

    actor.ActorClassID = Drawn


def require_own_ids() -> None:
    """Raise RuntimeError if two forks would draw the same ids."""
    if _id_of_fork() == _id_of_fork():
        raise RuntimeError("a module that was imported has started Ray's generator of random numbers: forks would draw equal ids")


def _id_of_fork() -> bytes:
    ours, theirs = os.pipe()
    if not (pid := os.fork()):
        os.write(theirs, sys.modules["ray"].UniqueID.from_random().binary())
        os._exit(0)
    os.close(theirs)
    os.waitpid(pid, 0)
    with os.fdopen(ours, "rb") as drawn:
        return drawn.read()


def become(worker: Worker) -> None:
    """Run, in a fork, the script of `worker`."""
    os.environ.clear()
    os.environ.update(worker.variables)
    os.chdir(worker.folder)
    random.seed()  # no two workers draw the same numbers
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    script = worker.arguments[0]
    sys.argv = worker.arguments
    sys.path[0] = os.path.dirname(script)
    runpy.run_path(script, run_name="__main__")


def _started(worker: Worker) -> Other:
    """Start the server for the runtime environment of `worker`."""
    ours, theirs = socket.socketpair()
    environment = worker.environment
    modules = [FRAMEWORK, *filter(None, environment.get(IMPORTS, "").split(","))]
    variables = {**os.environ, **worker.variables}
    command = [sys.executable, __file__, str(theirs.fileno()), "other", *modules]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=variables, stdin=subprocess.DEVNULL)
    theirs.close()
    return Other(ours, process)


def _received(source: socket.socket, size: int) -> bytes:
    parts, missing = list[bytes](), size
    while missing:
        part = source.recv(missing)
        if not part:
            raise OSError("cut off")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _lead_group(pid: int) -> None:
    """Let a fork, which is this process if `pid` is 0, lead a group, which its children join."""
    with suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def main(number: str, kind: str, *modules: str) -> None:
    """Serve on the socket of descriptor `number`; `kind` is `first` for the one that `forks.py` starts."""
    is_first = kind == "first"
    early = modules[: modules.index(FRAMEWORK)] if FRAMEWORK in modules else modules
    import_all(list(early))
    server = ForkServer(list(modules), socket.socket(fileno=int(number)), is_first=is_first)
    if worker := server.serve():
        become(worker)


if __name__ == "__main__":
    main(*sys.argv[1:])
