"""Actors that begin no other batch: of a drained node, of a run that gets SIGTERM, and slow ones. What they work on they finish.

A provider that takes a machine back says so seconds or minutes before; what hears it tells Ray (`ray drain-node`, the autoscaler).
Ray Data then gives the actors of that node no more batches, but one is waiting at each actor by then. The actor gives it back: it
ends, and Ray restarts it, with that batch, on another node. So it does between the paid batches of one block, of which the finished
ones are in the ledger. So a batch that is being paid for is finished, and none is begun that the end of the node would make us pay
twice. A slow actor of a pool ends in the same way (`peers`).
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pyarrow as pa
import ray
from ray._private.state import state
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_exists, _internal_kv_list, _internal_kv_put

from engine.contract.profile import Pool
from engine.distributed.peers import PeerGroup, Peers, group_of
from engine.safe_points import at_safe_points

log = logging.getLogger(__name__)

FINISH_SECONDS = 45.0  # for which a run that gets SIGTERM waits for its batches; `rayleigh submit --stop` allows 60
POLL_SECONDS = 0.5
SPACE = "rayleigh"  # of Ray's key-value store, by which driver and actors of all nodes know of each other


def careful(op: Any, pool: Pool) -> type:
    """Return `op`, a class of the actors of `pool`, as one of the same name that begins no batch on a node that is drained, after a
    stop, or if it is much slower than the others of the pool."""
    group = group_of(pool)

    class Careful(op):
        def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
            watch = _Watch.of_process(group)
            watch.check()
            watch.is_busy = True
            try:
                result = super().__call__(rows)
                yield from [result] if isinstance(result, pa.Table) else result
            finally:
                watch.is_busy = False

    Careful.__name__, Careful.__qualname__, Careful.__doc__ = op.__name__, op.__qualname__, op.__doc__
    return Careful


def draining() -> dict[str, int]:
    """Return the id of each node that is drained -> when it ends, in milliseconds since 1970; 0: not known."""
    return state.get_draining_nodes()  # no public function returns it


def finish_batches(seconds: float = FINISH_SECONDS) -> int:
    """Let the actors of this driver begin no batch, and wait, at most `seconds`, until they have finished theirs.

    Returns:
        How many have not.
    """
    if not ray.is_initialized():
        return 0
    job = ray.get_runtime_context().get_job_id()
    _internal_kv_put(f"stop:{job}", b"1", namespace=SPACE)
    end = time.monotonic() + seconds
    time.sleep(6 * POLL_SECONDS)  # in which those that work say so
    while (busy := len(_internal_kv_list(f"busy:{job}:", namespace=SPACE))) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return busy


class _Watch:
    """Looks, in a thread of an actor's process, whether its node is drained, its run is stopped, and it is slow.

    So a batch pays no call for it.
    """

    _own: "_Watch | None" = None

    def __init__(self, group: PeerGroup | None) -> None:
        context = ray.get_runtime_context()
        self.node, self.job, self.actor = context.get_node_id(), context.get_job_id(), context.get_actor_id()
        self.is_busy = self.is_drained = self.is_stopped = False
        self.peers = Peers(group) if group else None
        if self.peers and self.peers.must_return():
            self._give_back()
        self._try_to_look()
        threading.Thread(target=self._watch, name="drain", daemon=True).start()

    @classmethod
    def of_process(cls, group: PeerGroup | None) -> "_Watch":
        """Return the watch of this actor, which begins with its first batch, with its peers if it has any."""
        if cls._own is None:
            cls._own = cls(group)
            at_safe_points(cls._own.check)
        return cls._own

    def check(self) -> None:
        """End this process if its node is drained or it is slow; if the run is stopped, wait: the driver ends this process."""
        if self.is_drained:
            log.warning("node %s is drained: this actor gives its batch back, and goes on elsewhere", self.node)
            self._give_back()
        while self.is_stopped:
            self.is_busy = False
            time.sleep(POLL_SECONDS)
        if self.peers and self.peers.may_leave():
            self._give_back()

    def _give_back(self) -> None:
        """End, with all that this process has started, so that Ray restarts this actor, with the batch that it has not begun."""
        with suppress(psutil.Error):
            for each in psutil.Process().children(recursive=True):  # vLLM's engine core lives on without its parent, with the GPU
                with suppress(psutil.Error):
                    each.kill()
        os.kill(os.getpid(), signal.SIGKILL)  # Ray restarts no actor that ends by itself

    def look(self) -> None:
        """Ask Ray for all of it; after a stop, say whether this actor works."""
        key = f"busy:{self.job}:{self.actor}"
        self.is_drained = self.node in draining()
        self.is_stopped = _internal_kv_exists(f"stop:{self.job}", namespace=SPACE)
        if self.is_stopped and self.is_busy:
            _internal_kv_put(key, b"1", namespace=SPACE)
        elif self.is_stopped:
            _internal_kv_del(key, namespace=SPACE)
        if self.peers:
            self.peers.look()

    def _watch(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            self._try_to_look()

    def _try_to_look(self) -> None:
        try:
            self.look()
        except Exception as error:  # Ray's own, of many classes, while its head is away
            log.debug("Ray does not say whether the node %s is drained: %s", self.node, error)
