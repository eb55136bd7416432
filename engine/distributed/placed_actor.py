"""An actor, and what it holds of the cluster."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from engine.contract.profile import Pool
from engine.distributed import ray_options
from engine.distributed.capacity import Wanted
from engine.distributed.environment import importing


class PlacedActor(NamedTuple):
    """An actor that was started."""

    actor: Any
    """Its handle, whose methods Ray makes at run time."""
    group: PlacementGroup | None
    """Of the workers of its engine."""
    want: Wanted
    """What it takes."""

    def stop(self) -> None:
        """End the actor and free what it holds."""
        ray.kill(self.actor)
        if self.group:
            remove_placement_group(self.group)


def start(kind: type, *arguments: Any, pool: Pool, want: Wanted, modules: Sequence[str] = ()) -> PlacedActor:
    """Start `kind(*arguments)` in a place of `pool`, without waiting for it; it is going to import `modules`."""
    options, group = ray_options.actor(pool)
    options["runtime_env"]["env_vars"] |= importing(modules)
    return PlacedActor(ray.remote(kind).options(**options).remote(*arguments), group, want)
