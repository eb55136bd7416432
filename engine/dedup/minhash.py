"""MinHash of word or character n-grams: signatures, the keys of their bands, and the similarity that two signatures estimate.

Broder, "On the resemblance and containment of documents" (1997): the share of equal minima over random permutations estimates the
Jaccard similarity of the two sets; its standard error is sqrt(J (1 - J) / num_perm), 0.035 at J = 0.8 and 128 permutations.
Banding after Indyk and Motwani (1998): texts that agree in all rows of one band become a candidate pair.

The n-grams are those of `words.ngrams`. The hash of an n-gram is 32 bits: its words (or characters), each as the 64-bit FNV-1a of
its UTF-8, are the coefficients of a polynomial in 0x9E3779B97F4A7C15 modulo 2^64, the last of degree 0; of that the lower half of
MurmurHash3's 64-bit finalizer. So it rolls: an n-gram costs the same whatever its length, and no text is copied.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.prompts import Copies

MISSED, NEEDLESS = 0.9, 0.1  # what a missed pair and a needless one weigh: each pair is checked afterwards
NOTHING = np.uint32(0xFFFFFFFF)  # every minimum of a text without an n-gram

_UNITS = ("auto", "word", "character")  # in the order of the kernel's numbers


class Bands(NamedTuple):
    """How a signature is cut: `count` bands of `rows` minima each."""

    count: int
    rows: int


def signatures(texts: pa.Array | pa.ChunkedArray, copies: Copies) -> np.ndarray:
    """Return the minima, (texts, num_perm) of uint32; NOTHING for a text without a word and for null.

    They are those of datasketch 2 (scheme `affine32`, seed 1) over the hash above.
    """
    from engine.dedup import kernel  # numba: half a second that only who signs needs

    minima = np.full((len(texts), copies.num_perm), NOTHING)
    permutations = _permutations(copies.num_perm)
    unit = _UNITS.index(copies.unit)
    for start, end, strings in _buffers(texts):
        kernel.sign(strings, kernel.characters(), unit, copies.ngram, permutations, minima[start:end])
    return minima


def exact_keys(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a key for each text, (texts,) of uint64: equal where `words.normal` is; null counts as empty."""
    from engine.dedup import kernel

    keys = np.empty(len(texts), np.uint64)
    for start, end, strings in _buffers(texts):
        kernel.exact(strings, kernel.characters(), keys[start:end])
    return keys


def bands(copies: Copies) -> Bands:
    """Return the bands of the contract, else those that weigh least: the optimum that datasketch's MinHashLSH finds.

    A pair of similarity s becomes a candidate with probability p(s) = 1 - (1 - s^rows)^count. Weighed is the integral of p below
    the threshold (needless candidates) against that of 1 - p above it (missed pairs).
    """
    if copies.bands and copies.rows:
        return Bands(copies.bands, copies.rows)
    return _optimum(copies.threshold, copies.num_perm)


def band_keys(minima: np.ndarray, cut: Bands) -> np.ndarray:
    """Return one 64-bit key per band, (texts, bands): equal for equal bands, different between bands."""
    from engine.dedup import kernel

    keys = np.empty((len(minima), cut.count), np.uint64)
    kernel.band(_constant(minima), cut.rows, keys)
    return keys


def estimate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the Jaccard similarity, row by row, that two arrays of signatures estimate; 0 if a text has no n-gram."""
    return np.count_nonzero((left == right) & (left != NOTHING), axis=1) / left.shape[1]


@cache
def _optimum(threshold: float, num_perm: int) -> Bands:
    places, weights = np.polynomial.legendre.leggauss(num_perm // 2 + 1)  # exact: p is a polynomial of degree num_perm at most
    below, above = threshold * (places + 1) / 2, threshold + (1 - threshold) * (places + 1) / 2

    def weight(cut: Bands) -> float:
        needless = 1 - (1 - below**cut.rows) ** cut.count
        missed = (1 - above**cut.rows) ** cut.count
        return float(weights @ (NEEDLESS * threshold * needless + MISSED * (1 - threshold) * missed))

    every = (Bands(count, rows) for count in range(1, num_perm + 1) for rows in range(1, num_perm // count + 1))
    return min(every, key=weight)


def warm_up() -> None:
    """Sign a text, so that the machine code is made and kept: some seconds that no test or task then waits."""
    texts, some = pa.array(["a"]), Copies()
    exact_keys(texts)
    band_keys(signatures(texts, some), bands(some))


def _buffers(texts: pa.Array | pa.ChunkedArray) -> Iterator[tuple[int, int, tuple[np.ndarray, np.ndarray]]]:
    """Yield for each chunk the numbers of its first text and of the next chunk's, and its buffers as the kernel takes them."""
    start = 0
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        whole = pc.fill_null(chunk.cast(pa.large_string()), "")
        _, offsets, data = whole.buffers()
        if len(whole):
            where = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
            yield start, start + len(whole), (_constant(where), _constant(np.frombuffer(data or b"", np.uint8)))
        start += len(whole)


def _constant(array: np.ndarray) -> np.ndarray:
    """Return `array` as the one kind that the kernel is compiled for."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@cache
def _permutations(count: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.RandomState(1)
    factor = draw.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)  # odd: a bijection of 32 bits
    return factor, draw.randint(0, 1 << 32, count, dtype=np.uint32)
