"""Set before any test imports torch, Ray or a tokenizer: one quiet thread, no hub, no token file. Ctrl-C works."""

import os
import signal

from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it

os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_worker_niceness": "0",  # a busy machine would let the tests wait for their own workers
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
)
settings.register_profile("repeatable", derandomize=True, deadline=None)  # a test that passes once passes on every machine
settings.load_profile("repeatable")
