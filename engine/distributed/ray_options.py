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
from engine.distributed.pool_options import pool_options

IN_BUNDLES = ("num_gpus", "resources", "accelerator_type", "label_selector")


def actors(pool: Pool, *, engine: bool = True) -> dict[str, Any]:
    """Return the arguments that run a class on the actors of `pool`; each actor constructs the class once.

    Ray Data hands out batches as soon as one actor is up. It replaces an actor that dies and gives the new one the same batch.
    Without an `engine`, whose libraries need variables before they are imported, actors share the session's worker processes.
    """
    is_fixed = pool.fewest == pool.actors
    strategy = ActorPoolStrategy(size=pool.actors) if is_fixed else ActorPoolStrategy(min_size=pool.fewest, max_size=pool.actors)
    options = {"compute": strategy, **resources(pool)}
    if not engine:
        del options["runtime_env"]  # as in `tasks`
    if pool.pipeline > 1:
        options = without_bundles(
            options
        )  # the actor itself computes nothing: its engine's workers hold the GPUs of its placement group
        options["ray_remote_args_fn"] = partial(_placed, pool)
    return options


def actor(pool: Pool) -> tuple[dict[str, Any], PlacementGroup | None]:
    """Return the options of one actor outside of Ray Data, and the placement group that must be removed after it, if it has one."""
    options = resources(pool)
    if pool.pipeline == 1:
        return options, None
    options = without_bundles(options)  # as in `actors`
    group = _group(pool)
    return {**options, **_in_group(group)}, group


def tasks(pool: Pool) -> dict[str, Any]:
    """Return the arguments that run a function as tasks on `pool`."""
    # Without an environment of their own tasks share the session's worker processes; another would start more, seconds each.
    return {"compute": TaskPoolStrategy(size=pool.actors), **pool_options(pool)}


def resources(pool: Pool) -> dict[str, Any]:
    """Return what one actor of `pool` takes of its node, which nodes it may be placed on, and its environment variables."""
    return {**pool_options(pool), "runtime_env": {"env_vars": environment(pool)}}


def without_bundles(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an actor whose placement group holds the GPUs, the custom resources and the choice of nodes."""
    return {key: value for key, value in options.items() if key not in IN_BUNDLES}


def _placed(pool: Pool) -> dict[str, Any]:
    """Return the scheduling of an actor and of all workers that its engine starts: one packed placement group."""
    return _in_group(_group(pool))


def _group(pool: Pool) -> PlacementGroup:
    parts = bundles(pool)
    if pool.labels:
        return placement_group(parts, strategy="PACK", bundle_label_selector=[dict(pool.labels)] * len(parts))
    return placement_group(parts, strategy="PACK")


def _in_group(group: PlacementGroup) -> dict[str, Any]:
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)}
