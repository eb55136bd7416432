"""A plan held against the nodes of a profile: what a machine's hour does, and which memory no node has. Pure arithmetic."""

from collections.abc import Callable
from typing import NamedTuple

from engine.contract.profile import NodeGroup, Pool, Profile
from engine.records.scale import Misfit

GIB = 2**30
STORE_SHARE = 0.3  # of a node's memory, which Ray gives to its object store by default
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MOST_ROWS = 1e15  # of the search for the largest size that fits


class Need(NamedTuple):
    """Memory of one process as a function of the prompts."""

    stage: str
    who: str
    bytes_at: Callable[[float], float]


def group_of(profile: Profile, pool: Pool) -> NodeGroup | None:
    """Return the group with the fewest GPUs, then CPUs, of which a node holds one actor of `pool`; None if none does."""
    fitting = [
        group
        for group in profile.nodes
        if group.cpus >= pool.cpus
        and group.gpus >= pool.gpus
        and (not pool.accelerator or not pool.gpus or group.accelerator == pool.accelerator)
        and pool.labels.items() <= group.labels.items()
        and all(group.resources.get(kind, 0) >= amount for kind, amount in pool.resources.items())
    ]
    return min(fitting, key=lambda group: (group.gpus, group.cpus)) if fitting else None


def machine_share(profile: Profile, pool: Pool) -> float:
    """Return which share of a machine one actor of `pool` takes. Where the profile declares no nodes it is all of it, or a part of
    the one machine that there is.

    Each stage of a pipeline takes a share of its own.
    """
    group = group_of(profile, pool)
    if group is None:
        return profile.machine_share(pool)
    return max(pool.cpus / group.cpus, pool.gpus / group.gpus if pool.gpus else 0.0) * pool.pipeline


def cores_of_machine(profile: Profile) -> float | None:
    """Return the CPUs of the machines on which work without GPUs is priced; None where the profile declares no nodes."""
    group = group_of(profile, profile.cpu.model_copy(update={"gpus": 0}))
    return group.cpus if group else None


def object_store(profile: Profile) -> float | None:
    """Return the bytes of all object stores of the largest cluster; None where the profile declares no nodes."""
    if profile.ray.address == "local":
        return profile.ray.object_store_gib * GIB
    return sum(group.max * group.memory_gib for group in profile.nodes) * STORE_SHARE * GIB if profile.nodes else None


def misfits(profile: Profile, needs: list[Need], rows: float) -> tuple[Misfit, ...]:
    """Return the needs that exceed a node of `profile`, which declares nodes, at `rows` prompts."""
    largest = max(profile.nodes, key=lambda group: group.memory_gib)
    found = []
    for need in needs:
        is_task = need.who == "one task"
        has = (largest.memory_gib if is_task else profile.head.memory_gib) * GIB
        held = need.bytes_at(rows)
        if held > has:
            node = f"the largest node ({largest.name})" if is_task else "the head"
            fits = largest_size(need.bytes_at, has, rows)
            found.append(Misfit(stage=need.stage, who=need.who, needs=held, has=has, node=node, rows=fits))
    return tuple(found)


def largest_size(bytes_at: Callable[[float], float], has: float, most: float = MOST_ROWS) -> float:
    """Return the prompts up to which a growing need stays within `has` bytes, within a thousandth; 0 if none do."""
    low, high = 1.0, most
    if bytes_at(low) > has:
        return 0.0
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if bytes_at(middle) <= has else (low, middle)
    return low


def size(value: float) -> str:
    """Return bytes with a binary unit: 3221225472 -> 3 GiB."""
    power = 0
    while abs(value) >= 1024 and power < len(UNITS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.3g} {UNITS[power]}"
