"""Environment variables of a command: of Ray, torch and tokenizers."""

import os

from engine.contract.profile import Profile

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # set before torch loads: with libgomp's spinning threads everything on a CPU is many times slower
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # or a thread that is left after the session would start a Ray of its own by its next call
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",  # until it asks again for its workers' places: a new node may take minutes
}


def set_environment(profile: Profile) -> None:
    """Set the variables that Ray, torch and tokenizers read when they are imported, unless the caller has set them."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if profile.ray.address == "local":  # a cluster of our own on the loopback: a token would only leave a file behind
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    if not profile.trainer.gpus:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one process less for each student
