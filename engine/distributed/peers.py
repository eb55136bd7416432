"""The actors of a pool compare themselves over Ray's key-value store, and one that is slow lets another take its place.

Each publishes the medians of its last calls and reads those of its peers, in the thread that also watches for drained nodes. A pool
looks about ten times a second, however many actors it has, and an actor reads at most SAMPLE peers, so that the head has little to
do. An actor that finds itself slow (`stragglers`), while another node has room for it, takes one of the replacements that the pool
has, ends before it begins its next batch, and Ray restarts it with that batch. Ray chooses the node by the options with which the
actor was made, which no one can change: an actor that finds itself on the node that it has left, while another has room, ends with
its first batch not begun, before it loads an engine, a few times at most.
"""

import json
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import ray
from ray._private.state import state
from ray.experimental import internal_kv
from ray.util import get_node_ip_address

from engine.calls import ModelCall, on_call
from engine.contract.profile import Pool
from engine.distributed import capacity
from engine.distributed.stragglers import WINDOW, CallWindow, Slow

log = logging.getLogger(__name__)

SPACE = b"rayleigh"
ACCELERATOR = "ray.io/accelerator-type"  # label that Ray gives a node with GPUs: one with other GPUs is no peer
PREFIX = "peers:"
LOOKS = 10.0  # a second, of all actors of a pool
SAMPLE = 32  # peers, by chance, of which the median is taken
SKEW = 60.0  # seconds by which the clocks of nodes may differ
RETURNS = 5  # restarts on the same node after which an actor stays there


class PeerGroup(NamedTuple):
    """The actors of one step of a plan: the same class, with the same model."""

    name: str
    """Different for each step and plan."""
    pool: Pool

    @property
    def most(self) -> int:
        """How many actors may be replaced while the plan runs."""
        return max(1, self.pool.actors // 2)


class Peers:
    """What one actor knows of itself and of the others."""

    def __init__(self, group: PeerGroup) -> None:
        context = ray.get_runtime_context()
        self.group, self.actor, self.node = group, str(context.get_actor_id()), context.get_node_id()
        self.window = CallWindow()
        self.slow: Slow | None = None
        self._prefix = f"{PREFIX}{context.get_job_id()}:{group.name}:"
        self._seen, self._next = 0, time.monotonic() + random.random() * group.pool.actors / LOOKS  # not all at once
        self._ends: deque[float] = deque(maxlen=WINDOW)
        self._hardware = context.get_node_labels().get(ACCELERATOR, "")
        _asked(lambda: _delete(f"{self._prefix}rates:{self.actor}"))  # of the process in whose place this one is
        on_call(self._add)

    def look(self) -> None:
        """Publish what is new of this actor's calls, and compare it with its peers."""
        if self.window.count == self._seen or time.monotonic() < self._next:
            return
        self._seen, self._next = self.window.count, time.monotonic() + self.group.pool.actors / LOOKS
        own = self.window.rates()
        if not own:
            return
        key = f"{self._prefix}rates:{self.actor}"
        _put(key, {"hardware": self._hardware, "rates": own, "time": time.time()})
        keys = [other for other in _keys(f"{self._prefix}rates:") if other != key.encode()]
        peers = _values(random.sample(keys, min(SAMPLE, len(keys))))
        since = self._ends[0] - SKEW  # one that was last at work before may have had other work, or a better time
        alike = [peer["rates"] for peer in peers if peer["hardware"] == self._hardware and peer["time"] >= since]
        self.slow = self.window.slowness(alike, self.group.pool.straggler_factor or 0.0)

    def _add(self, call: ModelCall) -> None:
        if call.requests:  # while an engine loads, or a server does not answer, this actor is not at work
            self._ends.append(time.time())
        self.window.add(call)

    def may_leave(self) -> bool:
        """Return whether another may take this actor's place, and say so: it is slow, the pool has a replacement left, and another
        node has room for it.

        An actor that has come back to the node that it had left is not replaced again. While Ray's head is away none is.
        """
        slow, self.slow = self.slow, None
        return slow is not None and _asked(lambda: self._leave(slow))

    def must_return(self) -> bool:
        """Return whether this actor was restarted on the node that it has left as too slow, though another has room for it."""
        return _asked(self._must_return)

    def _leave(self, slow: Slow) -> bool:
        taken = _keys(f"{self._prefix}left:")
        if len(taken) >= self.group.most or self._is_among(taken) or not self._has_room_elsewhere():
            return False
        for number in range(len(taken), self.group.most):  # as none is removed, those below are taken
            if _put(f"{self._prefix}left:{number}", {"actor": self.actor, "node": self.node}, overwrite=False):
                log.warning(
                    "replacing a slow actor (%d of at most %d of this pool): actor %s on node %s, %s, takes %.3g s a call, its "
                    "peers (%d) take %.3g s: at least %.2g times theirs by call, request and token. It gives its next batch back.",
                    number + 1, self.group.most, self.actor, get_node_ip_address(), self.node, slow.seconds, slow.peers,
                    slow.peers_seconds, slow.factor,
                )  # fmt: skip
                return True
        return False

    def _must_return(self) -> bool:
        if not self._is_among(_keys(f"{self._prefix}left:")) or not self._has_room_elsewhere():
            return False
        return any(_put(f"{self._prefix}back:{self.actor}:{number}", {}, overwrite=False) for number in range(RETURNS))

    def _is_among(self, left: list[bytes]) -> bool:
        """Return whether this actor has left its node by one of the keys `left`."""
        return {"actor": self.actor, "node": self.node} in _values(left)

    def _has_room_elsewhere(self) -> bool:
        [need] = capacity.of_pool("", "", self.group.pool, "").bundles
        free, draining = state.available_resources_per_node(), state.get_draining_nodes()
        for node in ray.nodes():
            name, labels = node["NodeID"], node.get("Labels") or {}
            is_other = node["Alive"] and name != self.node and name not in draining
            is_labelled = all(labels.get(key) == value for key, value in self.group.pool.labels.items())
            if is_other and is_labelled and all(free.get(name, {}).get(kind, 0) >= amount for kind, amount in need.items()):
                return True
        return False


def group_of(pool: Pool) -> PeerGroup | None:
    """Return the group of a new step on `pool`; None if its actors are not compared.

    Those of several stages are not: Ray restarts an actor in its placement group, so on the same nodes.
    """
    is_compared = pool.actors > 1 and pool.pipeline == 1 and pool.straggler_factor is not None
    return PeerGroup(uuid.uuid4().hex[:12], pool) if is_compared else None


def forget() -> None:
    """Remove what the actors of this driver have published: a cluster that stays would keep it."""
    internal_kv._internal_kv_del(f"{PREFIX}{ray.get_runtime_context().get_job_id()}:", del_by_prefix=True, namespace=SPACE)


def _asked(question: Callable[[], bool]) -> bool:
    """Return what `question` to Ray's head says; False if it fails: a comparison of speeds must not end a plan."""
    try:
        return question()
    except Exception as error:  # Ray's own, of many classes, while its head is away
        log.debug("Ray does not answer: no actor is replaced: %s", error)
        return False


def _put(key: str, value: Any, *, overwrite: bool = True) -> bool:
    """Store `value`; return whether it is stored: not if there is one that must not be replaced. It is atomic."""
    return not internal_kv._internal_kv_put(key, json.dumps(value), overwrite, namespace=SPACE) or overwrite


def _delete(key: str) -> bool:
    """Remove `key`; return whether it was there."""
    return bool(internal_kv._internal_kv_del(key, namespace=SPACE))


def _keys(prefix: str) -> list[bytes]:
    return internal_kv._internal_kv_list(prefix, namespace=SPACE)


def _values(keys: list[bytes]) -> list[Any]:
    """Return the values of `keys` in one call; one that was removed meanwhile is left out."""
    client: Any = internal_kv.internal_kv_get_gcs_client()  # no function of Ray's reads several
    found = client.internal_kv_multi_get(keys, SPACE) if keys else {}
    return [json.loads(value) for value in found.values()]
