"""A pool of the profile as arguments of Ray Data's `map_batches`."""

from typing import Any

from ray.data import ActorPoolStrategy, TaskPoolStrategy

from engine.contract.profile import Pool

# Set before an actor imports torch. With libgomp's spinning threads vLLM on CPU is 20 times slower.
QUIET = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def actors(pool: Pool) -> dict[str, Any]:
    """Return the arguments that run a class, which keeps what it loaded, on `pool`."""
    return {"compute": ActorPoolStrategy(size=pool.actors), **resources(pool)}


def tasks(pool: Pool) -> dict[str, Any]:
    """Return the arguments that run a function on `pool`."""
    wanted = resources(pool)
    del wanted["runtime_env"]  # tasks share the session's worker processes; another environment would start more, seconds each
    return {"compute": TaskPoolStrategy(size=pool.actors), **wanted}


def threads(pool: Pool) -> dict[str, str]:
    """Return the variable that says how many threads compute in an actor of `pool`: one for each of its CPUs."""
    return {"OMP_NUM_THREADS": str(max(1, int(pool.cpus)))}


def resources(pool: Pool) -> dict[str, Any]:
    """Return the places and the environment that one actor of `pool` gets."""
    # An engine on a GPU runs in a process of its own; on a CPU it must share the actor's (no fork, no spinning).
    env = {**threads(pool), **QUIET}
    if pool.gpus:
        env = {key: value for key, value in env.items() if not key.startswith(("OMP_", "VLLM_ENABLE"))}
    wanted: dict[str, Any] = {"num_cpus": pool.cpus, "runtime_env": {"env_vars": env}}
    if pool.gpus:
        wanted["num_gpus"] = pool.gpus
    return wanted
