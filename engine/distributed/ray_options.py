"""A pool of the profile as arguments of Ray Data's `map_batches`."""

from functools import partial
from typing import Any

from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.util import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from engine.contract.profile import Pool

# What an actor must find set before it imports torch.
QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
ON_CPU = {
    "OMP_WAIT_POLICY": "PASSIVE",  # with libgomp's spinning threads vLLM is 20 times slower
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # an engine on a GPU has a process of its own; here it shares the actor's
    "TORCHDYNAMO_DISABLE": "1",  # it would compile one function of vLLM's sampler: 14 s at each start for no gain
}


def actors(pool: Pool) -> dict[str, Any]:
    """Return the arguments that run a class, which keeps what it loaded, on `pool`.

    Ray Data hands out batches as soon as one actor is there, starts another for one that dies, and gives it the same batch.
    """
    wanted = {"compute": ActorPoolStrategy(size=pool.actors), **resources(pool)}
    if pool.pipeline > 1:
        del wanted["num_gpus"]  # the actor itself computes nothing: its engine's workers hold the GPUs of its placement group
        wanted["ray_remote_args_fn"] = partial(_placed, pool)
    return wanted


def stages(pool: Pool) -> list[dict[str, float]]:
    """Return the bundles of one actor's placement group: a GPU for each worker of its engine, and its own CPUs beside the first."""
    gpus = [{"GPU": 1.0} for _ in range(int(pool.gpus) * pool.pipeline)]
    return [{"CPU": pool.cpus, **gpus[0]}, *gpus[1:]]


def tasks(pool: Pool) -> dict[str, Any]:
    """Return the arguments that run a function on `pool`."""
    wanted = resources(pool)
    del wanted["runtime_env"]  # tasks share the session's worker processes; another environment would start more, seconds each
    return {"compute": TaskPoolStrategy(size=pool.actors), **wanted}


def environment(pool: Pool) -> dict[str, str]:
    """Return the variables of an actor of `pool`. Without GPUs one thread computes for each of its CPUs."""
    return dict(QUIET) if pool.gpus else {**QUIET, **ON_CPU, "OMP_NUM_THREADS": str(max(1, int(pool.cpus)))}


def resources(pool: Pool) -> dict[str, Any]:
    """Return the places and the environment that one actor of `pool` gets."""
    wanted: dict[str, Any] = {"num_cpus": pool.cpus, "runtime_env": {"env_vars": environment(pool)}}
    if pool.gpus:
        wanted["num_gpus"] = pool.gpus
    return wanted


def _placed(pool: Pool) -> dict[str, Any]:
    """A placement group for one actor and for what its engine starts, the workers close to each other."""
    group = placement_group(stages(pool), strategy="PACK")
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)}
