"""Environment variables of a process with an engine."""

from engine.contract.profile import Pool

# Variables that it needs before it imports torch.
QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
ON_CPU = {
    "OMP_WAIT_POLICY": "PASSIVE",  # with libgomp's spinning threads vLLM is 20 times slower
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # an engine on a GPU has a process of its own; here it shares the actor's
    "TORCHDYNAMO_DISABLE": "1",  # it would compile one function of vLLM's sampler: 14 s at each start for no gain
}

SERVER = {"VLLM_XGRAMMAR_CACHE_MB": "64"}  # most prompts of a server are new, and so are the grammars of their spans


def environment(pool: Pool) -> dict[str, str]:
    """Return the environment variables of an actor of `pool`. Without GPUs it computes with one thread per CPU."""
    return dict(QUIET) if pool.gpus else {**QUIET, **ON_CPU, "OMP_NUM_THREADS": str(max(1, int(pool.cpus)))}
