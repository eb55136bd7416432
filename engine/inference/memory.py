"""Loading an engine that does not fit into memory: with fewer sequences at once, before it is given up."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

MIN_SEQUENCES = 8  # sequences at once; an engine that lacks memory for these does not fit the machine
MESSAGES = (
    "out of memory",
    "memory for the cache blocks",
    "Engine core initialization failed",  # vLLM's own process on a GPU logs the cause; only this message comes back
)
T = TypeVar("T")


def load_within_memory(load: Callable[[int], T], sequences: int) -> T:
    """Return `load(sequences)`; after each failure for lack of memory with half as many sequences, at least MIN_SEQUENCES.

    Only loading is tried again. An engine that runs out of memory while it generates is in an unknown state: its process ends, and
    `engine.inference.crash_isolation` sends its batch in halves. Tested with loaders that fail, not on a GPU.
    """
    while True:
        try:
            return load(sequences)
        except Exception as error:
            if sequences <= MIN_SEQUENCES or not is_memory(error):
                raise
            log.warning("Not enough memory for %d sequences at once, trying half: %s", sequences, error)
        sequences = max(MIN_SEQUENCES, sequences // 2)
        gc.collect()  # frees what the failed attempt still holds


def is_memory(error: Exception) -> bool:
    """Return whether `error` reports, or may hide, a lack of memory."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or any(text in str(error) for text in MESSAGES)
