"""The functions of the kernel that `native` calls: of one pointer to 64-bit integers, the addresses and shapes of arrays."""

import numpy as np

from engine.dedup import kernel_graph, kernel_texts
from engine.dedup.kernel import compile_function, matrix, vector

_u8, _u32, _u64, _i64 = np.uint8, np.uint32, np.uint64, np.int64


def minhash(args):
    strings = vector(args[0], args[1], _i64), vector(args[2], args[3], _u8)
    grams = args[6], args[7], vector(args[8], args[9], _u32)
    permutations = vector(args[10], args[11], _u32), vector(args[12], args[13], _u32)
    scratch = vector(args[14], args[15], _u64), vector(args[16], args[17], _u32), vector(args[18], args[19], _u8)
    table, minima = vector(args[4], args[5], _u64), matrix(args[20], args[21], args[22], _u32)
    kernel_texts.minhash(strings, table, grams, permutations, scratch, minima)


def text_keys(args):
    strings = vector(args[0], args[1], _i64), vector(args[2], args[3], _u8)
    scratch = vector(args[6], args[7], _u8), vector(args[6], args[7] >> 3, _u64)
    kernel_texts.text_keys(strings, vector(args[4], args[5], _u64), scratch, vector(args[8], args[9], _u64))


def band_keys(args):
    kernel_graph.band_keys(matrix(args[0], args[1], args[2], _u32), args[3], matrix(args[4], args[5], args[6], _u64))


def join_equal(args):
    order, keys = vector(args[0], args[1], _u64), vector(args[3], args[4], _u64)
    kernel_graph.join_equal(order, _u64(args[2]), keys, vector(args[5], args[6], _u32), vector(args[7], args[8], _u8))


def band(args):
    blocks = vector(args[0], args[1], _i64), vector(args[2], args[3], _i64), args[4]
    flag, order = vector(args[8], args[9], _u8), vector(args[10], args[11], _u64)
    vector(args[12], args[13], _i64)[0] = kernel_graph.band(blocks, (args[5], args[6]), _u64(args[7]), flag, order)


def pass_over_empty(args):
    blocks = vector(args[0], args[1], _i64), vector(args[2], args[3], _i64), args[4]
    kernel_graph.pass_over_empty(blocks, vector(args[5], args[6], _u8))


def join_buckets(args):
    blocks = vector(args[0], args[1], _i64), vector(args[2], args[3], _i64), args[4]
    order, keys, parent = vector(args[5], args[6], _u64), vector(args[9], args[10], _u64), vector(args[11], args[12], _u32)
    kernel_graph.join_buckets(blocks, order, _u64(args[7]), args[8], keys, parent)


def join_forests(args):
    kernel_graph.join_forests(vector(args[0], args[1], _u64), vector(args[2], args[3], _u32), vector(args[4], args[5], _u32))


def settle(args):
    kernel_graph.settle(vector(args[0], args[1], _u32), vector(args[2], args[3], _u8))


def equal_minima(args):
    blocks = vector(args[0], args[1], _i64), vector(args[2], args[3], _i64), args[4]
    pairs = vector(args[5], args[6], _i64), vector(args[7], args[8], _i64)
    kernel_graph.equal_minima(blocks, *pairs, vector(args[9], args[10], _i64))


ENTRIES = {
    function.__name__: function
    for function in (
        minhash,
        text_keys,
        band_keys,
        join_equal,
        pass_over_empty,
        band,
        join_buckets,
        join_forests,
        settle,
        equal_minima,
    )
}


def compile_entry(name: str) -> tuple[str, bytes]:
    """Return the symbol of the function `name` of ENTRIES, and an object file with it."""
    return compile_function(ENTRIES[name])
