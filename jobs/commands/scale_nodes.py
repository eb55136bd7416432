"""A plan held against the nodes of a profile: what a machine's hour does, and which memory no node has. Pure arithmetic."""

from collections.abc import Callable
from typing import NamedTuple

from engine.contract.profile import NodeGroup, Profile
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


def cores_of_machine(profile: Profile) -> float | None:
    """Return the CPUs of the machines on which work without GPUs is priced; None where the profile declares no nodes."""
    group = _group_of_tasks(profile)
    return group.cpus if group else None


def _group_of_tasks(profile: Profile) -> NodeGroup | None:
    return profile.group_of(profile.cpu.model_copy(update={"gpus": 0}))


def room_of_task(profile: Profile) -> tuple[float, str]:
    """Return the bytes that one task of the pool `cpu` can have on a node of `profile`, which declares nodes, and where: what the
    object store leaves of the memory. Tasks beside it need some of that, so a task that is almost as large may not fit either."""
    group = _group_of_tasks(profile) or max(profile.nodes, key=lambda group: group.memory_gib)
    return group.memory_gib * GIB * (1 - STORE_SHARE), f"a node ({group.name}), less its object store,"


def object_store(profile: Profile) -> float | None:
    """Return the bytes of all object stores of the largest cluster; None where the profile declares no nodes."""
    if profile.ray.address == "local":
        return profile.ray.object_store_gib * GIB
    return sum(group.max * group.memory_gib for group in profile.nodes) * STORE_SHARE * GIB if profile.nodes else None


def misfits(profile: Profile, needs: list[Need], rows: float) -> tuple[Misfit, ...]:
    """Return the needs that exceed the head of `profile`, which declares nodes, or what a task has of a node, at `rows` prompts."""
    of_task, of_head, found = room_of_task(profile), (profile.head.memory_gib * GIB, "the head"), []
    for need in needs:
        has, node = of_task if need.who == "one task" else of_head
        held = need.bytes_at(rows)
        if held > has:
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
