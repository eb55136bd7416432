"""Environment variables of a process with an engine."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.contract.profile import Pool
from engine.distributed.fork_server import IMPORTS

# Variables that it needs before it imports torch.
QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
ON_CPU = {
    "OMP_WAIT_POLICY": "PASSIVE",  # with libgomp's spinning threads vLLM is 20 times slower
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # an engine on a GPU has a process of its own; here it shares the actor's
    "TORCHDYNAMO_DISABLE": "1",  # it would compile one function of vLLM's sampler: 14 s at each start for no gain
}

JEMALLOC = Path("core", "libjemalloc.so")  # in Ray's package


def environment(pool: Pool) -> dict[str, str]:
    """Return the environment variables of an actor of `pool`. Without GPUs it computes with one thread per CPU."""
    return dict(QUIET) if pool.gpus else {**QUIET, **ON_CPU, "OMP_NUM_THREADS": str(max(1, int(pool.cpus)))}


def importing(modules: Sequence[str]) -> dict[str, str]:
    """Return the variables of an actor that is going to import `modules`, which a fork finds imported; none for no module.

    They are the same in any order, so that one server makes all actors of equal modules.
    """
    return {IMPORTS: ",".join(sorted(modules))} if modules else {}


def server_environment(pool: Pool, present: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that starts the engines of a server, with which they are started.

    A server runs for weeks, and no two steps of its engine want the same sizes. Under load glibc's heap grows by some MiB a minute,
    so without GPUs jemalloc allocates, which Ray's package has. An allocator that `present`, the variables so far, preloads is used
    in its place.
    """
    found = {**environment(pool), "VLLM_XGRAMMAR_CACHE_MB": "64"}  # most prompts are new, and so are the grammars of their spans
    if not pool.gpus and not present.get("LD_PRELOAD") and (library := _jemalloc()):
        found["LD_PRELOAD"] = str(library)
    return found


def _jemalloc() -> Path | None:
    """Return Ray's jemalloc; None on a system for which its package has none."""
    spec = importlib.util.find_spec("ray")
    folders = spec.submodule_search_locations or [] if spec else []
    return next((path for folder in folders if (path := Path(folder, JEMALLOC)).is_file()), None)
