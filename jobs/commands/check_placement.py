"""Whether a cluster can place what a run needs at the same time: a table, and the nearest change where it cannot."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from engine.contract.base import Section
from engine.contract.contract import Contract
from engine.contract.profile import NodeGroup, Profile, group_problems
from engine.contract.sections import parse, read_yaml, refuse
from engine.distributed.capacity import OF_TYPE, Wanted, of_pool, wanted
from engine.distributed.placement import EPSILON, Group, Placement, declared, place, placed
from engine.errors import ContractError, InputError
from jobs.pipeline import pipeline
from jobs.terminal.console import columns

HEAD = ["", "job", "who", "actors", "each takes", "what happens"]
SHOWN = ("CPU", "GPU")
WORDS = {"fits": "ok", "waits": "waits", "partly": "partly", "never": "NEVER"}


class NodesFile(Section):
    """A description of a cluster's nodes."""

    nodes: tuple[NodeGroup, ...] = Field(min_length=1)


def check_placement(contract: Contract, profile: Profile, nodes: str | None) -> str:
    """Return the table of what the jobs of `contract` need, held against the nodes of the file `nodes`, else those of `profile`.

    Raises:
        ContractError: the profile declares no nodes, or the file is not valid.
        InputError: something can never be placed; the message is the table.
    """
    groups = _groups(profile, nodes)
    wants = list(wanted(contract, profile, [job.name for job in pipeline(contract)]))
    placements = place(wants, groups)
    where = nodes or ("this machine" if profile.ray.address in ("local", "none") else f"the nodes of the profile {profile.name}")
    text = f"Placement on {where}:\n{table(placements)}"
    if never(placements):
        raise InputError(f"{text}\nRay would wait forever for what is marked NEVER.")
    return text


def table(placements: Sequence[Placement]) -> str:
    """Return a line for each kind of actors: what becomes of them, and the change that mends it."""
    rows = [
        [WORDS[one.state], one.job, one.who, f"{one.placed} of {one.actors}", one.each, one.note or "runs at once"]
        for one in placements
    ]
    return columns(rows, head=HEAD)


def never(placements: Sequence[Placement]) -> list[Placement]:
    """Return what can never be placed."""
    return [one for one in placements if one.state == "never"]


def held_by_others(wants: Sequence[Wanted], nodes: Sequence[Group], free: Sequence[Group]) -> Iterator[str]:
    """Yield lines that say what of `wants` finds no place on `free`, what is free of the running `nodes`, and did if they were
    empty: Ray lets it wait until the jobs that hold the rest have ended."""
    counts = zip(wants, placed(wants, nodes), placed(wants, free), strict=True)
    late = [(want, later, now) for want, later, now in counts if now < later]
    if not late:
        return
    has, left = (
        {kind: sum(group.has.get(kind, 0) * group.running for group in groups) for kind in SHOWN} for groups in (nodes, free)
    )
    held = [f"{has[kind] - left[kind]:g} of {has[kind]:g} {kind}s" for kind in SHOWN if has[kind] - left[kind] > EPSILON]
    yield f"WARNING: this run waits: {' and '.join(held) or 'some resources'} are held by other jobs of the cluster."
    yield from (f"  {want.job}: {want.who}: {now} of {later} can begin now" for want, later, now in late)


def wanted_by_pools(profile: Profile) -> list[Wanted]:
    """Return what the pools of `profile` need without a contract, those by name too: one teacher, one judge, one training worker,
    one engine. Of several teachers, workers or engines each is placed by itself."""
    task = of_pool("candidates", "one task", profile.cpu.model_copy(update={"actors": 1}), "cpu")
    return [
        of_pool("candidates", "one teacher", profile.teacher, "teacher"),
        of_pool("candidates", "judges and checks", profile.judge, "judge"),
        task,
        *(
            of_pool("candidates", f"teacher {name}", pool, f"teachers.{name}")._replace(phase=name)
            for name, pool in profile.teachers.items()
        ),
        of_pool("dataset", "embeddings", profile.embedder, "embedder"),
        task._replace(job="dataset"),
        of_pool("students", "one worker", profile.trainer, "trainer", workers=1),
        *(
            of_pool("students", f"one worker of {name}", pool, f"trainers.{name}", workers=1)._replace(phase=name)
            for name, pool in profile.trainers.items()
        ),
        of_pool("reports", "one engine", profile.evaluator, "evaluator", workers=1),
        *(
            of_pool("reports", f"engine of {name}", pool, f"evaluators.{name}", workers=1)._replace(phase=name)
            for name, pool in profile.evaluators.items()
        ),
    ]


def _groups(profile: Profile, nodes: str | None) -> list[Group]:
    if nodes:
        path = Path(nodes)
        found = parse(NodesFile, read_yaml(path), where=path).nodes
        refuse(group_problems(found), where=path)
        return declared(profile.model_copy(update={"nodes": found}))
    if profile.nodes:
        return declared(profile)
    if profile.ray.address in ("local", "none"):
        has = {"CPU": float(profile.ray.num_cpus or os.cpu_count() or 1), **_gpus(profile)}
        return [Group("this machine", has, 1, 1, is_fixed=True)]
    example = "nodes: [{name: gpu, cpus: 44, gpus: 4, max: 6}]"
    raise ContractError(
        f"profile {profile.name}: declares no nodes, so nothing can be held against them. Add {example}, or --nodes FILE."
    )


def _gpus(profile: Profile) -> dict[str, float]:
    """Return the GPUs of this machine as Ray counts them; their type only if a pool of `profile` asks for one."""
    found = {"GPU": float(len(list(Path("/dev").glob("nvidia[0-9]*"))))}
    if any(pool.accelerator for pool in profile.pools.values()):
        from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager  # as Ray names it when it starts

        if kind := NvidiaGPUAcceleratorManager.get_current_node_accelerator_type():
            found[f"{OF_TYPE}{kind}"] = 1.0
    return found
