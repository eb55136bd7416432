"""A Ray cluster of one or several raylets on this machine, which a benchmark starts and reads the counters of."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from engine.contract.profile import Profile
from engine.distributed.session import SYSTEM
from engine.errors import MachineError
from engine.records.base import Json
from jobs.bench.watch import ROOT
from jobs.terminal.environment import set_environment

ANSWERS = 60  # seconds
DRIVER = 1  # ray.core.generated.common_pb2.WorkerType


class StoreCounters(NamedTuple):
    """What the object stores of all raylets have counted since they started."""

    objects: int
    """Objects that were written to shared memory; Ray keeps those below 100 KB elsewhere."""
    bytes: int
    """Bytes of these objects, without those that were read back from disk: what tasks have passed on to each other."""
    spilled: int
    """Bytes that were moved to disk."""

    def since(self, before: "StoreCounters") -> "StoreCounters":
        """Return what was counted after `before`."""
        return StoreCounters(*(now - then for now, then in zip(self, before, strict=True)))


class Raylets:
    """A running cluster."""

    def __init__(self, cluster: Any, count: int) -> None:
        self._cluster, self._count = cluster, count

    @property
    def address(self) -> str:
        """Address that a driver joins."""
        return self._cluster.address

    def counters(self) -> StoreCounters:
        """Return the sums over all raylets.

        Raises:
            MachineError: a raylet is gone, or does not answer in ANSWERS seconds; a sum without it would be less than the last.
        """
        stats = []
        for _ in range(ANSWERS):
            stats = [reply.store_stats for reply in self._stats()]
            if len(stats) == self._count:
                break
            time.sleep(1)
        else:
            raise MachineError(
                f"bench scale: {len(stats)} of {self._count} raylets answered within {ANSWERS} s, so their counters are not known. "
                "Measure this size again, on a machine that does less else."
            )
        return StoreCounters(
            sum(each.cumulative_created_objects for each in stats),
            sum(each.cumulative_created_bytes - each.restored_bytes_total for each in stats),
            sum(each.spilled_bytes_total for each in stats),
        )

    def references(self) -> int:
        """Return the references to objects that drivers hold now."""
        workers = [worker for reply in self._stats() for worker in reply.core_workers_stats]
        return sum(worker.num_object_refs_in_scope for worker in workers if worker.worker_type == DRIVER)

    def _stats(self) -> Iterator[Any]:
        import grpc
        from ray._private.internal_api import node_stats

        for node in self._cluster.global_state.node_table():
            if node["Alive"]:
                with suppress(grpc.RpcError):  # a busy raylet is asked again with the next sample
                    yield node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)


@contextmanager
def start_raylets(count: int, profile: Profile) -> Iterator[Raylets]:
    """Start `count` raylets that share the CPUs and the object store of `profile` equally, and stop them at the end."""
    from ray.cluster_utils import Cluster

    set_environment(profile)
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(ROOT), *filter(None, [known])]))
    cpus = -(-(profile.ray.num_cpus or os.cpu_count() or 1) // count)
    logging.getLogger("ray").setLevel(logging.ERROR)  # it warns of the folder for spilled objects, which it has set itself
    node: Json = {"num_cpus": cpus, "object_store_memory": int(profile.ray.object_store_gib * 2**30 / count)}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "_system_config": SYSTEM, "include_dashboard": False})
    try:
        for _ in range(count - 1):
            cluster.add_node(**node)
        yield Raylets(cluster, count)
    finally:
        cluster.shutdown()
        if known is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = known
