"""Ray for the length of a command: a local cluster that is started and stopped, or a running one that is joined."""

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private.state import state

from engine.contract.profile import Profile
from engine.distributed.forks import can_fork, fork_workers
from engine.distributed.peers import forget
from engine.distributed.placement import Group, declared
from engine.errors import InputError

log = logging.getLogger(__name__)

# The children of a worker end with it: on a GPU vLLM's engine is a process of its own, which would go on to hold the memory.
SYSTEM = {"process_group_cleanup_enabled": True}
OWN = ("node:", "object_store_memory", "memory")  # resources that Ray counts for itself
KINDS = ("CPU", "GPU")
NODE_GROUP = "ray.io/node-group"  # label with the name of the group, of nodes that an autoscaler or an operator has started
NODE_ID = "ray.io/node-id"  # label that Ray gives each node: it would make every node a group of its own
UNLIMITED = 1000
ATTEMPTS = 8  # of 30 s each, which is a constant in Ray's code
STORE_PARTS = 8  # a task that shuffles reads at most one of so many parts of the smallest object store


@contextmanager
def session(profile: Profile, *, data: bool = True) -> Iterator[None]:
    """Hold a connection to the cluster of `profile`. `data=False` skips the set-up of Ray Data.

    Inside a running session it does nothing.
    """
    if ray.is_initialized():
        yield
        return
    if profile.ray.address == "none":
        raise InputError(
            f"profile {profile.name}: ray.address is `none`, and this needs a cluster. Let it be `local`: Ray then starts here."
        )
    with fork_workers() if can_fork(profile) else nullcontext():
        if profile.ray.address == "local":
            start(
                num_cpus=profile.ray.num_cpus,
                object_store_memory=int(profile.ray.object_store_gib * 2**30),
                log_to_driver=True,
            )
        else:
            ray.init(address=profile.ray.address, logging_level=logging.WARNING)
        if data:
            configure_data()
        try:
            yield
        finally:
            if profile.ray.address != "local" and ray.is_initialized():
                with suppress(Exception):  # what is left takes some KiB of the head; the run has ended, well or not
                    forget()
            ray.shutdown()


def is_running() -> bool:
    """Return whether there is a connection to a cluster: without one the next call would start another."""
    return ray.is_initialized()


def nodes() -> list[dict[str, float]]:
    """Return the resources of each node of the running cluster: CPU, GPU, and others in Ray's units."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def groups(profile: Profile) -> tuple[list[Group], bool]:
    """Return the nodes of the running cluster with what it can grow to, and whether that limit is known.

    It is known of a cluster with Ray's autoscaler, which reports its limits, of a profile that declares `nodes`, and of a cluster
    of this machine, which does not grow.
    """
    found = running_groups()
    if profile.ray.address == "local":
        return [group._replace(name="this machine", is_fixed=True) for group in found], True
    told = declared(profile)
    limits = _reported({group.name: group.labels for group in told}) or [(group, group.most) for group in told]
    alive = _running_of(found, limits)
    more = [group._replace(running=0, most=most - alive[at]) for at, (group, most) in enumerate(limits) if most > alive[at]]
    return [*found, *more], bool(limits)


def running_groups(*, free: bool = False) -> list[Group]:
    """Return the nodes of the running cluster, those of equal resources and labels together; if `free`, with what no actor and no
    task of any job holds now."""
    running: Counter[tuple[tuple[tuple[str, float], ...], tuple[tuple[str, str], ...]]] = Counter()
    available = state.available_resources_per_node() if free else {}
    for node in ray.nodes():
        if node["Alive"]:
            amounts = available.get(node["NodeID"], {}) if free else node["Resources"]
            has = {kind: amount for kind, amount in amounts.items() if not kind.startswith(OWN)}
            labels = {key: value for key, value in (node.get("Labels") or {}).items() if key != NODE_ID}
            running[tuple(sorted(has.items())), tuple(sorted(labels.items()))] += 1
    return [
        Group(f"running {at}", dict(has), count, count, dict(labels))
        for at, ((has, labels), count) in enumerate(running.items(), start=1)
    ]


def _running_of(found: Sequence[Group], limits: Sequence[tuple[Group, int]]) -> list[int]:
    """Return how many of the nodes `found` are of each group of `limits`; each node is of one group at most.

    A node says of which group it is, where an autoscaler or an operator has started it. Any other is of a group with its resources
    and none of its labels otherwise: of those that say most of it the first, while the group has room.
    """
    counts = [0] * len(limits)
    names = {group.name: at for at, (group, _) in enumerate(limits)}
    for node in found:
        left, named = node.running, names.get(node.labels.get(NODE_GROUP, ""))
        if named is not None:
            counts[named] += left
            continue
        alike = [at for at, (group, _) in enumerate(limits) if _is_alike(node, group)]
        for at in sorted(alike, key=lambda at: -len(limits[at][0].labels.items() & node.labels.items())):
            taken = min(left, max(0, limits[at][1] - counts[at]))
            counts[at], left = counts[at] + taken, left - taken
    return counts


def _is_alike(node: Group, group: Group) -> bool:
    others = {kind: amount for kind, amount in group.has.items() if kind not in KINDS and not kind.startswith(OWN)}
    is_equal = all(node.has.get(kind, 0) == group.has.get(kind, 0) for kind in KINDS)
    is_labelled = all(node.labels.get(key, value) == value for key, value in group.labels.items() if key != NODE_GROUP)
    return is_equal and is_labelled and all(node.has.get(kind, 0) >= amount for kind, amount in others.items())


def _reported(labels: Mapping[str, Mapping[str, str]]) -> list[tuple[Group, int]]:
    """Return the groups that Ray's autoscaler has reported, without their labels, and the most nodes of each."""
    config = state.get_cluster_config()  # no public function returns it
    if config is None:
        return []
    known = [one for one in config.node_group_configs if one.resources and one.max_count]
    limits = [one.max_count if one.max_count > 0 else UNLIMITED for one in known]  # -1: without a limit
    return [
        (Group(one.name, dict(one.resources), 0, limit, labels.get(one.name, {})), limit)
        for one, limit in zip(known, limits, strict=True)
    ]


def start(**options: Any) -> None:
    """Start Ray on this machine, in at most ATTEMPTS: it waits only 30 s for its own processes, too few on a busy machine.

    Workers import this package by the variable PYTHONPATH, which they inherit: a runtime environment costs each a second.

    Raises:
        InputError: the folder of temporary files has too long a path for the sockets of Ray.
    """
    package = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([package, *filter(None, [os.environ.get("PYTHONPATH")])]))
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING, _system_config=SYSTEM, **options)
            return
        except Exception as error:  # Ray raises a bare Exception
            if isinstance(error, OSError) and "AF_UNIX" in str(error):
                raise InputError(
                    f"TMPDIR: Ray keeps its sockets in the folder of temporary files, and its path is too long for them: {error}. "
                    "Name a folder with a shorter path, for all or for Ray alone: RAY_TMPDIR=/tmp."
                ) from None
            if "timed out during startup" not in str(error) or not attempts_left:
                raise
            log.warning("Ray did not start in time; trying again")
            ray.shutdown()


def configure_data() -> None:
    """Set up Ray Data for this process: no progress bars or notices of its own, and rows in the same batches in every run.

    Blocks of a node that are shuffled are read by one task until they are `shuffle_input_batch_bytes`, a GiB by default: more than
    a small object store holds.
    """
    from ray.data import DataContext  # a second that plain tasks need not pay

    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")  # fewer blocks than slots is no fault
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.wait_for_min_actors_s = -1  # a pool begins with the first actor that is up
    context.execution_options.preserve_order = True
    stores = [int(node.get("object_store_memory", 0)) for node in nodes()]
    if stores and min(stores):
        context.shuffle_input_batch_bytes = min(context.shuffle_input_batch_bytes, min(stores) // STORE_PARTS)
