"""What the kernel's functions take: shared by `native`, which calls them, and by the modules that numba compiles."""

import numpy as np

BLOCK = 4096  # bytes (or tokens of characters) at a time; a multiple of AT_ONCE
FOLDED = 4 * BLOCK + 64  # two bytes fold to at most seven; plus the rest of the block before, and a word
AT_ONCE = 4  # hashes of one pass over the permutations, which loads and stores the minima once
ALL_PAIRS_UP_TO = 16  # texts of a bucket; of a larger one (boilerplate) all are compared with one
ROUNDS = 4  # of a larger bucket: what the one did not match is a bucket of its own

# An entry of the table: the UTF-8 of the folded character (a blank for any space), at most seven bytes; its length; flags.
SIZE, FLAG_WORD, FLAG_UNSPACED = np.uint64(56), np.uint64(1 << 59), np.uint64(1 << 60)

_STRINGS = ("int64", "uint8", "uint64")  # offsets and data of texts, and the table of characters
_BLOCKS = ("int64", "int64", "int")  # address of each block's signatures; its first row, and all rows; permutations
ENTRY_TYPES: dict[str, tuple[str, ...]] = {  # function of kernel_entries -> types of its arguments: arrays, or `int`
    "minhash": (*_STRINGS, "int", "int", "uint32", "uint32", "uint32", "uint64", "uint32", "uint8", "uint32"),
    "text_keys": (*_STRINGS, "uint8", "uint64"),
    "band_keys": ("uint32", "int", "uint64"),
    "join_equal": ("uint64", "int", "uint64", "uint32", "uint8"),
    "pass_over_empty": (*_BLOCKS, "uint8"),
    "band": (*_BLOCKS, "int", "int", "int", "uint8", "uint64", "int64"),
    "join_buckets": (*_BLOCKS, "uint64", "int", "int", "uint64", "uint32"),
    "join_forests": ("uint64", "uint32", "uint32"),
    "settle": ("uint32", "uint8"),
    "equal_minima": (*_BLOCKS, "int64", "int64", "int64"),
}


def scratch(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `kernel_texts.minhash` works in for n-grams of `size`: tokens, hashes, letters."""
    return np.empty(size - 1 + BLOCK, np.uint64), np.empty(BLOCK + AT_ONCE, np.uint32), np.empty(BLOCK, np.uint8)
