"""Where the actors of a run are placed: on nodes that run, on nodes that the autoscaler may add, or nowhere, and Ray waits.

The actors of a job are dealt to nodes, each as a whole: the largest first, each to the first node with room (first fit decreasing;
Johnson, 1973). GPUs are devices: a fraction shares one, and more than one takes whole ones. What this does not place could in rare
cases be placed in another order; what it places fits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from math import ceil
from typing import Literal, NamedTuple

from engine.contract.profile import NodeGroup, Profile
from engine.distributed.capacity import OF_TYPE, Resources, Wanted

EPSILON = 1e-6
State = Literal["fits", "waits", "partly", "never"]


class Group(NamedTuple):
    """Equal nodes."""

    name: str
    has: Resources
    """CPU, GPU, custom resources, and `accelerator_type:TYPE`, of one node."""
    running: int
    """Nodes that run now."""
    most: int
    """Nodes that the cluster may grow to."""
    labels: Mapping[str, str] = {}
    is_fixed: bool = False
    """Whether no further node can be added, as to a cluster of one machine."""


class Placement(NamedTuple):
    """What becomes of one kind of actors."""

    job: str
    who: str
    actors: int
    """How many are wanted."""
    each: str
    """What one takes."""
    state: State
    """`fits` on the nodes that run; `waits` for nodes that the autoscaler adds; `partly`: fewer run than are wanted, and the
    job goes on; `never`: the job would wait forever. On a cluster that does not grow what runs only in part never does: its actors
    would hold what the tasks of their own job wait for."""
    placed: int
    """How many run at last."""
    note: str
    """What it waits for, or why it cannot be placed and the nearest change that mends it."""


@dataclass
class _Node:
    group: Group
    is_running: bool
    free: dict[str, float] = field(init=False)
    gpus: list[float] = field(init=False)
    """What is free of each device."""

    def __post_init__(self) -> None:
        self.free = {kind: amount for kind, amount in self.group.has.items() if kind != "GPU"}
        whole, part = divmod(self.group.has.get("GPU", 0), 1)
        self.gpus = [1.0] * int(whole) + [part] * (part > EPSILON)  # a part: what is free of one that others share

    @property
    def is_used(self) -> bool:
        """Whether an actor lies on it."""
        return any(free < self.group.has[kind] for kind, free in self.free.items()) or any(free < 1 for free in self.gpus)

    def take(self, bundle: Resources, labels: Mapping[str, str]) -> bool:
        """Take `bundle` of the node if it has room."""
        if not _is_labelled(self.group, labels):
            return False
        if any(amount > self.free.get(kind, 0) + EPSILON for kind, amount in bundle.items() if kind != "GPU" and amount):
            return False
        gpus, wanted = list(self.gpus), bundle.get("GPU", 0.0)
        share = wanted if wanted < 1 else 1.0
        for _ in range(1 if 0 < wanted < 1 else int(wanted)):
            fitting = [at for at, free in enumerate(gpus) if free + EPSILON >= share]
            if not fitting:
                return False
            best = min(fitting, key=lambda at: gpus[at])
            gpus[best] -= share
        self.gpus = gpus
        for kind, amount in bundle.items():
            if kind != "GPU" and amount:
                self.free[kind] -= amount
        return True


def place(wants: Sequence[Wanted], groups: Sequence[Group]) -> list[Placement]:
    """Return what becomes of each of `wants`, phase by phase; those of one phase of a job are held at the same time, those of two
    phases are not, nor those of two jobs."""
    return [placement for _, together in groupby(wants, key=_phase) for placement in _place_together(list(together), groups)]


def placed(wants: Sequence[Wanted], groups: Sequence[Group]) -> list[int]:
    """Return how many actors of each of `wants` find a place on the nodes that run, without the words of `place`."""
    return [count for _, together in groupby(wants, key=_phase) for count in _deal(list(together), _running(groups))]


def _running(groups: Sequence[Group]) -> list[_Node]:
    return [_Node(group, True) for group in groups for _ in range(group.running)]


def _phase(want: Wanted) -> tuple[str, str]:
    return want.job, want.phase


def fits_together(wants: Sequence[Wanted], groups: Sequence[Group]) -> bool:
    """Return whether the nodes that run have room for all actors of `wants` at the same time, whatever their jobs, and in whatever
    order and on whichever nodes Ray places them: it moves none to make room for the next.

    So it is if one node has room for all of them, or if the nodes have as many places as there are bundles, each of the size of the
    largest: the most of each resource, with the labels of all. Actors of several sizes may fit by chance where this returns False;
    of equal ones with one bundle it is exact. The nodes count as empty: what other jobs hold is not subtracted.
    """
    count = sum(want.actors * len(want.bundles) for want in wants)
    kinds = dict.fromkeys(kind for want in wants for bundle in want.bundles for kind in bundle)
    largest = {kind: max(bundle.get(kind, 0) for want in wants for bundle in want.bundles) for kind in kinds}
    together = {kind: sum(want.actors * _most(bundle, kind) for want in wants for bundle in want.bundles) for kind in kinds}
    usable = [group for group in groups if group.running and all(_is_labelled(group, want.labels) for want in wants)]
    return sum(group.running * _places(largest, group, count) for group in usable) >= count or any(
        _places(together, group, 1) for group in usable
    )


def _most(bundle: Resources, kind: str) -> float:
    """Return what `bundle` takes of a node, of GPUs as whole devices: which shares meet on one depends on the order."""
    return ceil(bundle.get(kind, 0)) if kind == "GPU" else bundle.get(kind, 0)


def _places(bundle: Resources, group: Group, most: int) -> int:
    """Return how often an empty node of `group` has room for `bundle`, at most `most` times."""
    node = _Node(group, True)
    return len(list(takewhile(bool, (node.take(bundle, {}) for _ in range(most)))))


def _is_labelled(group: Group, labels: Mapping[str, str]) -> bool:
    return all(group.labels.get(key) == value for key, value in labels.items())


def nodes_needed(wants: Sequence[Wanted], groups: Sequence[Group]) -> dict[str, int]:
    """Return how many nodes of each group the phase with the largest need uses, if each can grow to its most."""
    needed: dict[str, int] = {}
    for _, together in groupby(wants, key=_phase):
        nodes = [_Node(group, False) for group in groups for _ in range(group.most)]
        _deal(list(together), nodes)
        for group in groups:
            used = sum(node.is_used for node in nodes if node.group is group)
            needed[group.name] = max(needed.get(group.name, 0), used)
    return needed


def _place_together(wants: Sequence[Wanted], groups: Sequence[Group]) -> Iterator[Placement]:
    now = _deal(wants, _running(groups))
    grown = [_Node(group, at < group.running) for group in groups for at in range(max(group.most, group.running))]
    grown.sort(key=lambda node: not node.is_running)
    at_last = _deal(wants, grown)
    added, is_fixed = _added(grown), all(group.is_fixed for group in groups)
    for want, running, placed in zip(wants, now, at_last, strict=True):
        if running >= want.actors:
            state, note = "fits", ""
        elif placed >= want.actors:
            state, note = "waits", f"waits for {added}"
        else:
            state = "partly" if placed >= want.fewest and not is_fixed else "never"
            note = _why(want, wants, groups, placed)
        yield Placement(want.job, want.who, want.actors, describe(want.bundles), state, placed, note)


def _deal(wants: Sequence[Wanted], nodes: Sequence[_Node]) -> list[int]:
    """Return how many actors of each want get a place: first the fewest of each that the job needs, then the others."""
    order = sorted(range(len(wants)), key=lambda at: _size(wants[at]), reverse=True)
    placed = [0] * len(wants)
    for limit in ("fewest", "actors"):
        for at in order:
            want = wants[at]
            while placed[at] < getattr(want, limit) and _put(want, nodes):
                placed[at] += 1
    return placed


def _put(want: Wanted, nodes: Sequence[_Node]) -> bool:
    """Place one actor, all of its bundles or none."""
    before = [(node, dict(node.free), list(node.gpus)) for node in nodes] if len(want.bundles) > 1 else []
    for bundle in want.bundles:
        without = [node for node in nodes if not node.gpus] if not bundle.get("GPU") else []  # as Ray avoids nodes with GPUs
        if not any(node.take(bundle, want.labels) for node in [*without, *nodes]):
            for node, free, gpus in before:
                node.free, node.gpus = free, gpus
            return False
    return True


def _size(want: Wanted) -> tuple[float, float]:
    return max(bundle.get("GPU", 0) for bundle in want.bundles), max(bundle.get("CPU", 0) for bundle in want.bundles)


def _added(nodes: Sequence[_Node]) -> str:
    names: dict[str, int] = {}
    for node in nodes:
        if node.is_used and not node.is_running:
            names[node.group.name] = names.get(node.group.name, 0) + 1
    return " and ".join(f"{count} new {name}" for name, count in names.items())


def _why(want: Wanted, wants: Sequence[Wanted], groups: Sequence[Group], placed: int) -> str:
    """Return why not all actors of `want` get a place, and the nearest change that mends it."""
    if missing := _missing(want, groups):
        return missing
    fitting = [group for group in groups if _fits_empty(want, group)]
    where = f"{want.section}.actors"
    lower = f"lower {where} to {placed}" if placed else f"lower the pools that share its nodes, or {where}"
    if want.fewest == want.actors and placed < want.fewest:  # workers that start together
        lower = f"lower the student's workers to {placed}" if placed else lower
    for group in sorted((one for one in fitting if not one.is_fixed), key=lambda group: _spare(want, group)):
        for more in range(1, want.actors * len(want.bundles) + 1):
            raised = [other._replace(most=other.most + more) if other is group else other for other in groups]
            nodes = [_Node(one, True) for one in raised for _ in range(max(one.most, one.running))]
            if all(found >= one.actors for found, one in zip(_deal(wants, nodes), wants, strict=True)):
                largest = max(group.most, group.running)
                higher = f"raise the nodes {group.name} from {largest} to {largest + more}"
                return f"{placed} of {want.actors} find room: {higher}, or {lower}"
    return f"{placed} of {want.actors} find room: {lower}"


def _fits_empty(want: Wanted, group: Group) -> bool:
    return all(_Node(group, False).take(bundle, want.labels) for bundle in want.bundles)


def _spare(want: Wanted, group: Group) -> float:
    """Return what a node has beyond the want: a node without GPUs is nearer to one that wants none."""
    return group.has.get("GPU", 0) * 1000 + group.has.get("CPU", 0)


def _missing(want: Wanted, groups: Sequence[Group]) -> str:
    """Return what no node has, however empty, with the nearest change; "" if an empty node has room."""
    for bundle in want.bundles:
        if any(_Node(group, False).take(bundle, want.labels) for group in groups):
            continue
        if not groups:
            return "there are no nodes: add a group to `nodes` of the profile, or start a node"
        for key, value in want.labels.items():
            if not any(group.labels.get(key) == value for group in groups):
                known = sorted({group.labels[key] for group in groups if key in group.labels})
                return f"no node has the label {key}={value} (found: {', '.join(known) or 'none'}): change {want.section}.labels"
        for kind, amount in bundle.items():
            best = max(groups, key=lambda group: group.has.get(kind, 0))
            if amount > best.has.get(kind, 0) + EPSILON:
                return _lack(want, kind, amount, best, groups)
        near = max(groups, key=lambda group: sum(group.has.get(kind, 0) >= amount for kind, amount in bundle.items()))
        nearest = f"nearest is {near.name} with {describe([near.has])}"
        return f"no one node has {describe([bundle])} together; {nearest}: lower {want.section}"
    return ""


def _lack(want: Wanted, kind: str, amount: float, best: Group, groups: Sequence[Group]) -> str:
    has = best.has.get(kind, 0)
    if kind.startswith(OF_TYPE):
        known = sorted({name.removeprefix(OF_TYPE) for group in groups for name in group.has if name.startswith(OF_TYPE)})
        found = f"no node has a GPU of type {kind.removeprefix(OF_TYPE)} (found: {', '.join(known) or 'none'})"
        return f"{found}: change {want.section}.accelerator"
    if kind == "GPU" and has >= 1 and amount > has:
        stages = (
            f"; or let gpus be {has:g} and pipeline {-(-amount // has):g}"
            if want.section.startswith(("teacher", "judge", "eval"))
            else ""
        )
        return f"no node has {amount:g} GPU; the most is {has:g}, of {best.name}: lower {want.section}.gpus to {has:g}{stages}"
    if kind in ("CPU", "GPU") and has:
        return (
            f"no node has {amount:g} {kind}; the most is {has:g}, of {best.name}: lower {want.section}.{kind.lower()}s to {has:g}"
        )
    if kind in ("CPU", "GPU"):
        return f"no node has a {kind}: add nodes with {amount:g}, or set {want.section}.{kind.lower()}s to 0"
    return f"no node has the resource {kind}: start nodes with it, or change {want.section}.resources"


def describe(bundles: Sequence[Resources]) -> str:
    """Return what bundles take together, in words."""
    kinds = dict.fromkeys(kind for bundle in bundles for kind in bundle)
    total = {kind: sum(bundle.get(kind, 0) for bundle in bundles) for kind in kinds}
    shown = [f"{amount:g} {kind}" for kind, amount in total.items() if amount and not kind.startswith(OF_TYPE)]
    types = [kind.removeprefix(OF_TYPE) for kind in kinds if kind.startswith(OF_TYPE)]
    return " and ".join([*(shown or ["0 CPU"]), *types])


def declared(profile: Profile) -> list[Group]:
    """Return the nodes that `profile` declares, as a cluster that has to grow to them."""
    return [Group(group.name, resources_of(group), group.min, group.max, group.node_labels) for group in profile.nodes]


def resources_of(group: NodeGroup) -> dict[str, float]:
    """Return what Ray counts on a node."""
    of_type = {f"{OF_TYPE}{group.accelerator}": 1.0} if group.accelerator else {}
    return {"CPU": group.cpus, "GPU": float(group.gpus), **group.resources, **of_type}
