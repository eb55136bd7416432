"""Crash isolation: find the requests that crash an engine, give them up, and answer the rest.

Before a batch is sent, an in-flight marker with its keys is written; afterwards it is removed. A marker of a dead process says that
the process died during the call: by a crash inside the engine, for want of memory, or because the call took too long and was ended
here. The batch is sent once more unchanged, since a death may be an accident; then in batches of half as many requests as the
engine computes at once, which also meets a lack of memory; then of half of that, until the request that crashes the engine is alone
and is given up. No supervisor is needed: whatever restarts the process (Ray, for an actor) makes it continue here.

A bug is no crash: an exception such as a TypeError, raised at the same place for one batch after another, would be taken for a
crash by every request. A circuit breaker stops the run instead, with the traceback; see `_is_bug`.
"""

import faulthandler
import os
import socket
import sys
import traceback
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import psutil

from engine.errors import ModelError, RayleighError, StorageError
from engine.inference.engine import Engine
from engine.inference.memory import is_memory
from engine.records.base import Record
from engine.storage.folder import Folder

PATIENCE = 2  # deaths of a batch before it is halved
MAX_SAME_FAILURES = 3  # batches without a common request that may fail at the same place of the code, without a success in between
TRACE_LINES = 8  # last lines of the traceback that the circuit breaker's error holds
MARKERS = "in-flight"  # folder of the in-flight markers in a run's own ledger
HOST = socket.gethostname()
STDERR = 2  # the file descriptor: `sys.stderr` may have none
DIED = 70  # exit status of a process whose engine is in an unknown state


class Marker(Record):
    """A batch that is being computed or whose process died."""

    host: str
    pid: int
    keys: list[str]
    model: str = ""
    failure: str = ""
    """Type and place of the exception that ended the process; "" for a crash, and once a later batch of the model succeeded."""


class CrashIsolator:
    """Calls an engine with batches that do not crash it.

    `folder` holds the in-flight markers; empty it when a job begins, so that only the job's own deaths count. `at_once` is how many
    requests the engine computes at the same time: a batch of half the size, but more than that, would crash it all the same.
    `hang_seconds`: the longest call; None = any, as the engine itself ends what takes too long.
    """

    def __init__(
        self, folder: Folder, *, hang_seconds: float | None, at_once: int = sys.maxsize, die: Callable[[int], object] = os._exit
    ) -> None:
        self.folder, self.hang_seconds, self.at_once, self.die = folder, hang_seconds, at_once, die
        self.model = ""

    def __call__(self, keys: Sequence[str], ask: Callable[[Sequence[int]], None], give_up: Callable[[int], None]) -> None:
        """Call `ask` with positions in `keys`, batch by batch, and `give_up` with each position that crashes the engine alone.

        `ask` must make its answers durable. A RayleighError passes through. Any other exception ends the process, because the
        engine is in an unknown state; so does a call longer than `hang_seconds`.

        Raises:
            ModelError: MAX_SAME_FAILURES batches failed at the same place of the code.
        """
        if not keys:
            return
        dead = self._dead()
        for size, batch in _batches(keys, [set(marker.keys) for marker in dead.values()], self.at_once):
            if size == 0:
                give_up(batch[0])
            else:
                self._ask([keys[index] for index in batch], lambda batch=batch: ask(batch))
                self._forget_failures(dead)
                dead = {}

    def load(self, build: Callable[[], Engine], what: str) -> Engine:
        """Return the engine that `build` makes of the model `what`.

        Raises:
            ModelError: from `build`, or because PATIENCE processes on this host died while they loaded it.
        """
        self.model = what
        loaded: list[Engine] = []

        def give_up(index: int) -> None:
            causes = {marker.failure for marker in self._dead().values() if key in marker.keys and marker.failure}
            cause = f" The last failed with {causes.pop()}." if causes else ""
            raise ModelError(f"{what}: {PATIENCE} processes on {HOST} died while they loaded it; the log says of what.{cause}")

        key = f"{what} on {HOST}"
        self([key], lambda batch: loaded.append(build()), give_up)
        for name, marker in self._dead().items():
            if marker.keys == [key]:  # it can be loaded: earlier deaths had other causes
                self.folder.remove_file(name)
        return loaded[0]

    def _ask(self, keys: Sequence[str], ask: Callable[[], None]) -> None:
        name = f"{uuid.uuid4().hex}.json"
        marker = Marker(host=HOST, pid=os.getpid(), keys=list(keys), model=self.model)
        self._write(name, marker)
        if self.hang_seconds is not None:
            faulthandler.dump_traceback_later(self.hang_seconds, exit=True, file=STDERR)
        try:
            ask()
        except RayleighError:
            self.folder.remove_file(name)
            raise
        except Exception as error:
            traceback.print_exc()
            if _is_bug(error):
                self._write(name, marker.model_copy(update={"failure": _failure(error)}))
                self._stop_if_repeated(error)
            self.die(DIED)
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.folder.remove_file(name)

    def _stop_if_repeated(self, error: Exception) -> None:
        """Raise ModelError if enough batches of the model failed as with `error`, and no single request can be the cause."""
        failure = _failure(error)
        same = [marker.keys for marker in self._dead().values() if (marker.model, marker.failure) == (self.model, failure)]
        if _disjoint(same) >= MAX_SAME_FAILURES:
            lines = [line for part in traceback.format_exception(error) for line in part.splitlines() if line.strip()]
            raise ModelError(
                f"{self.model}: {len(same)} batches in a row failed with {failure}. That is a bug or a damaged model, not a fault "
                "of single requests; nothing of these batches was recorded. The traceback ends with:\n"
                + "\n".join(lines[-TRACE_LINES:])
            ) from error

    def _forget_failures(self, dead: dict[str, Marker]) -> None:
        """Note that a batch of the model succeeded: earlier failures were those of requests."""
        for name, marker in dead.items():
            if marker.failure and marker.model == self.model:
                self._write(name, marker.model_copy(update={"failure": ""}))

    def _write(self, name: str, marker: Marker) -> None:
        self.folder.write(name, marker.model_dump_json().encode())

    def _dead(self) -> dict[str, Marker]:
        """Return name -> marker of each process that died, as far as can be seen from this host."""
        dead = {}
        for name in self.folder.files():
            with suppress(StorageError):  # removed at this moment: its process lives
                marker = Marker.model_validate_json(self.folder.read(name)) if name.endswith(".json") else None
                if marker and not _is_alive(marker):
                    dead[name] = marker
        return dead


def _is_alive(marker: Marker) -> bool:
    """Return whether another process of this host is in the middle of its call: several engines may load side by side."""
    return marker.host == HOST and marker.pid != os.getpid() and psutil.pid_exists(marker.pid)


def _is_bug(error: Exception) -> bool:
    """Return whether `error` is a programming error, rather than a failure of the engine, of its memory or of the machine."""
    package = type(error).__module__.partition(".")[0]
    return not (isinstance(error, RuntimeError | OSError) or package in ("vllm", "torch") or is_memory(error))


def _failure(error: Exception) -> str:
    """Return the type of `error` and the place that raised it: what is the same when a bug is met again."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno}"


def _disjoint(batches: Iterable[Sequence[str]]) -> int:
    """Return how many of `batches` have no key in common, the smallest counted first: at least so many requests failed."""
    seen: set[str] = set()
    count = 0
    for keys in sorted(batches, key=len):
        if seen.isdisjoint(keys):
            seen.update(keys)
            count += 1
    return count


def _batches(keys: Sequence[str], deaths: Sequence[set[str]], at_once: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (batch size, positions in `keys`), the least suspect first; size 0 means that it crashes the engine alone."""
    suspects: dict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        sizes = [len(batch) for batch in deaths if key in batch]
        suspects[len(keys) if len(sizes) < PATIENCE else _half(min(sizes), at_once)].append(index)
    for size in sorted(suspects, reverse=True):
        batch = max(1, size)
        for start in range(0, len(suspects[size]), batch):
            yield size, suspects[size][start : start + batch]


def _half(size: int, at_once: int) -> int:
    """Return the size of the batches into which one of `size` is cut; 0 if it cannot be."""
    return size // 2 if size <= at_once else max(1, at_once // 2)
