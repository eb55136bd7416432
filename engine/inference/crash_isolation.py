"""What kills its engine is found and set apart; the rest is answered.

Before a batch is asked, a mark with its keys is written; afterwards it is taken away. A mark that is found again says that the
process died in between: of a crash inside the engine, of memory, or of a call that took too long and was ended here. The batch is
asked once more as it was, since a death may be an accident; after that with half as many as the engine computes at once, which is
also how memory that does not suffice is met, then half of that, until what kills stands alone and is given up.
No supervisor is needed: whoever restarts the process (Ray, for an actor) makes it go on here.
"""

import faulthandler
import json
import os
import socket
import sys
import traceback
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import psutil

from engine.errors import ModelError, RayleighError, StorageError
from engine.inference.engine import Engine
from engine.storage.shards import Folder

PATIENCE = 2  # deaths of a batch before it is halved
MARKERS = "in-flight"  # folder of the in-flight markers in a run's own ledger
HOST = socket.gethostname()
STDERR = 2  # the descriptor: what `sys.stderr` stands for may be none
DIED = 70  # exit status of a process whose engine is of no use any more


class CrashIsolator:
    """Asks in batches that survive. `folder` holds the marks; empty it when a job begins, so that only its own deaths count.

    `at_once` is how much of a batch the engine computes at the same time: halves of more than that would kill it in the same way.
    """

    def __init__(
        self, folder: Folder, *, hang_seconds: float, at_once: int = sys.maxsize, die: Callable[[int], Any] = os._exit
    ) -> None:
        self.folder, self.hang_seconds, self.at_once, self.die = folder, hang_seconds, at_once, die

    def __call__(self, keys: Sequence[str], ask: Callable[[Sequence[int]], None], give_up: Callable[[int], None]) -> None:
        """Call `ask` with the positions in `keys` of one batch after the other, and `give_up` with each that kills.

        `ask` must make its answers durable. An error of ours passes through; any other ends the process, as the engine's state is
        unknown, and so does a call longer than `hang_seconds`.
        """
        if not keys:
            return
        for size, batch in _batches(keys, list(self._marks().values()), self.at_once):
            if size == 0:
                give_up(batch[0])
            else:
                self._ask([keys[index] for index in batch], lambda batch=batch: ask(batch))

    def load(self, build: Callable[[], Engine], what: str) -> Engine:
        """Return the engine that `build` makes.

        Raises:
            ModelError: from `build`, or because processes on this host died of it again and again.
        """
        loaded: list[Engine] = []

        def give_up(index: int) -> None:
            raise ModelError(f"{what}: {PATIENCE} processes on {HOST} died while they loaded it; the log says of what.")

        key = f"{what} on {HOST}"
        self([key], lambda batch: loaded.append(build()), give_up)
        for name, keys in self._marks().items():
            if keys == {key}:  # it can be loaded: earlier deaths had other causes
                self.folder.remove(name)
        return loaded[0]

    def _ask(self, keys: Sequence[str], ask: Callable[[], None]) -> None:
        mark = f"{uuid.uuid4().hex}.json"
        self.folder.write(mark, json.dumps({"host": HOST, "pid": os.getpid(), "keys": keys}).encode())
        faulthandler.dump_traceback_later(self.hang_seconds, exit=True, file=STDERR)
        try:
            ask()
        except RayleighError:
            self.folder.remove(mark)
            raise
        except Exception:
            traceback.print_exc()
            self.die(DIED)
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.folder.remove(mark)

    def _marks(self) -> dict[str, set[str]]:
        """Name -> keys of each mark whose process is dead, as far as can be seen from here."""
        dead = {}
        for name in self.folder.files():
            with suppress(StorageError):  # taken away in this moment: its process lives
                mark = json.loads(self.folder.read(name)) if name.endswith(".json") else None
                if mark and not _is_at_work(mark["host"], mark["pid"]):
                    dead[name] = set(mark["keys"])
        return dead


def _is_at_work(host: str, pid: int) -> bool:
    """Whether another process of this host is in the middle of its call: several engines may load side by side."""
    return host == HOST and pid != os.getpid() and psutil.pid_exists(pid)


def _batches(keys: Sequence[str], marks: Sequence[set[str]], at_once: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (most in a batch, positions in `keys`), the least suspect first; a most of 0 means that this one kills alone."""
    suspects: dict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        deaths = [len(mark) for mark in marks if key in mark]
        suspects[len(keys) if len(deaths) < PATIENCE else _half(min(deaths), at_once)].append(index)
    for size in sorted(suspects, reverse=True):
        batch = max(1, size)
        for start in range(0, len(suspects[size]), batch):
            yield size, suspects[size][start : start + batch]


def _half(size: int, at_once: int) -> int:
    """The size of the batches into which one of `size` is cut; 0 if it cannot be."""
    return size // 2 if size <= at_once else max(1, at_once // 2)
