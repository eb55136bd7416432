"""An engine that does not fit into memory is loaded with fewer sequences at once before it is given up."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

FLOOR = 8  # sequences at once: an engine that needs more memory than for these has no place here
SIGNS = (
    "out of memory",
    "memory for the cache blocks",
    "Engine core initialization failed",  # vLLM's own process on a GPU: it logs the cause, and only that it failed comes back
)
T = TypeVar("T")


def fitting(load: Callable[[int], T], sequences: int) -> T:
    """Return `load(sequences)`; after each failure for want of memory with half as many sequences, down to FLOOR.

    Only loading is tried again here. An engine that runs out of memory while it generates is in an unknown state: its process ends,
    and `engine.inference.crash_isolation` asks its batch in halves. Tested with loaders that fail; on a GPU it has not been run.
    """
    while True:
        try:
            return load(sequences)
        except Exception as error:
            if sequences <= FLOOR or not is_memory(error):
                raise
            log.warning("No memory for %d sequences at once, trying half: %s", sequences, error)
        sequences = max(FLOOR, sequences // 2)
        gc.collect()  # what the failed attempt still holds


def is_memory(error: Exception) -> bool:
    """Return whether `error` says, or may hide, that memory ran out."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or any(sign in str(error) for sign in SIGNS)
