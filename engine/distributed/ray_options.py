"""A pool of the profile as arguments of Ray Data's `map_batches`."""

from functools import partial
from typing import Any

from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.util import placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from engine.contract.profile import Pool
from engine.distributed.capacity import bundles
from engine.distributed.environment import environment


def actors(pool: Pool) -> dict[str, Any]:
    """Return the arguments that run a class on the actors of `pool`; each actor constructs the class once.

    Ray Data hands out batches as soon as one actor is up. It replaces an actor that dies and gives the new one the same batch.
    """
    options = {"compute": ActorPoolStrategy(size=pool.actors), **resources(pool)}
    if pool.pipeline > 1:
        del options["num_gpus"]  # the actor itself computes nothing: its engine's workers hold the GPUs of its placement group
        options["ray_remote_args_fn"] = partial(_placed, pool)
    return options


def actor(pool: Pool) -> tuple[dict[str, Any], PlacementGroup | None]:
    """Return the options of one actor outside of Ray Data, and the placement group that must be removed after it, if it has one."""
    options = resources(pool)
    if pool.pipeline == 1:
        return options, None
    del options["num_gpus"]  # as in `actors`
    group = placement_group(bundles(pool), strategy="PACK")
    return {**options, **_in_group(group)}, group


def tasks(pool: Pool) -> dict[str, Any]:
    """Return the arguments that run a function as tasks on `pool`."""
    options = resources(pool)
    del options["runtime_env"]  # tasks share the session's worker processes; another environment would start more, seconds each
    return {"compute": TaskPoolStrategy(size=pool.actors), **options}


def resources(pool: Pool) -> dict[str, Any]:
    """Return CPUs, GPUs and environment variables of one actor of `pool`."""
    options: dict[str, Any] = {"num_cpus": pool.cpus, "runtime_env": {"env_vars": environment(pool)}}
    if pool.gpus:
        options["num_gpus"] = pool.gpus
    return options


def _placed(pool: Pool) -> dict[str, Any]:
    """Return the scheduling of an actor and of all workers that its engine starts: one packed placement group."""
    return _in_group(placement_group(bundles(pool), strategy="PACK"))


def _in_group(group: PlacementGroup) -> dict[str, Any]:
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)}
