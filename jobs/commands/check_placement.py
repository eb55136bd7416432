"""Whether a cluster can place what a run needs at the same time: a table, and the nearest change where it cannot."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import Field

from engine.contract.base import Section
from engine.contract.contract import Contract
from engine.contract.profile import NodeGroup, Profile
from engine.contract.sections import parse, read_yaml
from engine.distributed.capacity import Wanted, of_pool, wanted
from engine.distributed.placement import Group, Placement, declared, place
from engine.errors import ContractError, InputError
from jobs.pipeline import pipeline
from jobs.terminal.console import columns

HEAD = ["", "job", "who", "actors", "each takes", "what happens"]
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


def wanted_by_pools(profile: Profile) -> list[Wanted]:
    """Return what the pools of `profile` need without a contract: one teacher, one judge, one training worker, one engine."""
    task = of_pool("candidates", "one task", profile.cpu.model_copy(update={"actors": 1}), "cpu")
    return [
        of_pool("candidates", "one teacher", profile.teacher, "teacher"),
        of_pool("candidates", "judges and checks", profile.judge, "judge"),
        task,
        of_pool("dataset", "embeddings", profile.embedder, "embedder"),
        task._replace(job="dataset"),
        of_pool("students", "one worker", profile.trainer, "trainer", workers=1),
        of_pool("reports", "one engine", profile.evaluator, "evaluator", workers=1),
    ]


def wanted_by_jobs(contract: Contract, profile: Profile, jobs: Collection[str]) -> list[Wanted]:
    """Return what `jobs` need at the same time."""
    return list(wanted(contract, profile, jobs))


def _groups(profile: Profile, nodes: str | None) -> list[Group]:
    if nodes:
        path = Path(nodes)
        found = parse(NodesFile, read_yaml(path), where=path).nodes
        return declared(profile.model_copy(update={"nodes": found}))
    if profile.nodes:
        return declared(profile)
    if profile.ray.address in ("local", "none"):
        gpus = float(len(list(Path("/dev").glob("nvidia[0-9]*"))))
        return [Group("this machine", {"CPU": float(profile.ray.num_cpus or os.cpu_count() or 1), "GPU": gpus}, 1, 1)]
    example = "nodes: [{name: gpu, cpus: 44, gpus: 4, max: 6}]"
    raise ContractError(
        f"profile {profile.name}: declares no nodes, so nothing can be held against them. Add {example}, or --nodes FILE."
    )
