"""MinHash of word or character n-grams: signatures, band keys, and the similarity that two signatures estimate.

Broder, "On the resemblance and containment of documents" (1997): the share of equal minima over random permutations estimates the
Jaccard similarity of the two sets; its standard error is sqrt(J (1 - J) / num_perm), 0.035 at J = 0.8 and 128 permutations.
Banding after Indyk and Motwani (1998): texts that agree in all rows of one band become a candidate pair.

The n-grams are those of `words.ngrams`, so of texts in canonical form. An n-gram's hash has 32 bits: the 64-bit FNV-1a hashes of
the UTF-8 of its words (or characters) are the coefficients of a polynomial in 0x9E3779B97F4A7C15 modulo 2^64, the last one of
degree 0; the hash is the lower half of MurmurHash3's 64-bit finalizer of that. It is a rolling hash: the cost of an n-gram does
not depend on its length.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.prompts import Copies, Normalization
from engine.dedup import characters, native
from engine.dedup.entry_types import FOLDED, scratch
from engine.dedup.words import canonical

FALSE_NEGATIVE_WEIGHT, FALSE_POSITIVE_WEIGHT = 0.9, 0.1  # candidates are verified, so a false positive costs little
NOTHING = np.uint32(0xFFFFFFFF)  # the value of all minima of a text without an n-gram

_UNITS = ("auto", "word", "character")  # in the order of the kernel's numbers


class Bands(NamedTuple):
    """The bands of a signature: `bands` bands of `rows` minima each."""

    bands: int
    rows: int


def minhash(texts: pa.Array | pa.ChunkedArray, copies: Copies, ignored: np.ndarray | None = None) -> np.ndarray:
    """Return the MinHash signatures, (texts, num_perm) of uint32; NOTHING for a text without a word and for null.

    `ignored` are `gram_hashes` of n-grams that do not count. The signatures equal those of datasketch 2 (scheme `affine32`, seed 1)
    over the hash above.
    """
    signatures = np.empty((len(texts), copies.num_perm), np.uint32)
    unit, nothing = _UNITS.index(copies.unit), np.empty(0, np.uint32)
    fixed = (unit, copies.ngram, nothing if ignored is None else np.ascontiguousarray(ignored), *_permutations(copies.num_perm))
    for start, end, strings in _buffers(texts, copies.normalization):
        native.call("minhash", *strings, *fixed, *scratch(copies.ngram), signatures[start:end])
    return signatures


def gram_hashes(grams: Iterable[Sequence[str]]) -> np.ndarray:
    """Return the sorted, distinct hashes of n-grams, (hashes,) of uint32, as the kernel computes them."""
    return np.unique(np.fromiter((_gram_hash(gram) for gram in grams), np.uint32))


def text_keys(texts: pa.Array | pa.ChunkedArray, form: Normalization = "nfc") -> np.ndarray:
    """Return a key for each text, (texts,) of uint64: equal if `words.normalize` is equal; null counts as empty."""
    keys = np.empty(len(texts), np.uint64)
    for start, end, strings in _buffers(texts, form):
        native.call("text_keys", *strings, np.empty(FOLDED, np.uint8), keys[start:end])
    return keys


def bands(copies: Copies) -> Bands:
    """Return the bands of the contract, or else the optimum of the weighted error that datasketch's MinHashLSH finds.

    A pair of similarity s becomes a candidate with probability p(s) = 1 - (1 - s^rows)^count. The error is the weighted sum of the
    integral of p below the threshold (false positives) and of 1 - p above it (false negatives).
    """
    if copies.bands and copies.rows:
        return Bands(copies.bands, copies.rows)
    return _optimum(copies.threshold, copies.num_perm)


def band_keys(signatures: np.ndarray, cut: Bands) -> np.ndarray:
    """Return one 64-bit key per band, (texts, bands): equal for equal bands, different between bands."""
    keys = np.empty((len(signatures), cut.bands), np.uint64)
    native.call("band_keys", np.ascontiguousarray(signatures), cut.rows, keys)
    return keys


def estimate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the estimated Jaccard similarity of two arrays of signatures, row by row; 0 if a text has no n-gram."""
    return np.count_nonzero((left == right) & (left != NOTHING), axis=1) / left.shape[1]


@cache
def _optimum(threshold: float, num_perm: int) -> Bands:
    places, weights = np.polynomial.legendre.leggauss(num_perm // 2 + 1)  # exact: p is a polynomial of degree num_perm at most
    below, above = threshold * (places + 1) / 2, threshold + (1 - threshold) * (places + 1) / 2

    def weight(cut: Bands) -> float:
        false_positive = 1 - (1 - below**cut.rows) ** cut.bands
        false_negative = (1 - above**cut.rows) ** cut.bands
        error = FALSE_POSITIVE_WEIGHT * threshold * false_positive + FALSE_NEGATIVE_WEIGHT * (1 - threshold) * false_negative
        return float(weights @ error)

    every = (Bands(count, rows) for count in range(1, num_perm + 1) for rows in range(1, num_perm // count + 1))
    return min(every, key=weight)


def warm_up() -> None:
    """Compile the kernel and write its machine code to the cache, so that no later task waits some seconds for it."""
    native.load_all()


def _gram_hash(tokens: Sequence[str]) -> int:
    key = 0
    for token in tokens:
        of_token = 0xCBF29CE484222325
        for byte in token.encode():
            of_token = (of_token ^ byte) * 0x100000001B3 % 2**64
        key = (key * 0x9E3779B97F4A7C15 + of_token) % 2**64
    key = (key ^ key >> 33) * 0xFF51AFD7ED558CCD % 2**64
    key = (key ^ key >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return (key ^ key >> 33) % 2**32


Strings = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Offsets and UTF-8 of texts, and what the kernel has to know of their characters."""


def _buffers(texts: pa.Array | pa.ChunkedArray, form: Normalization) -> Iterator[tuple[int, int, Strings]]:
    """Yield, for each chunk, the numbers of its first text and of the next chunk's first, and its texts in canonical form."""
    start = 0
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        whole = pc.fill_null(chunk.cast(pa.large_string()), "")
        if len(whole):
            yield start, start + len(whole), _canonical(whole, form)
        start += len(whole)


def _canonical(texts: pa.Array, form: Normalization) -> Strings:
    """Return `texts` in canonical form. ASCII costs one look at its bytes, other texts one at their characters."""
    offsets, data = strings = _strings(texts)
    if not len(data) or data[offsets[0] : offsets[-1]].max(initial=0) < 0x80:
        return *strings, characters.ascii_table()
    if form != "none" and pc.any(changes := pc.match_substring_regex(texts, characters.unstable(form))).as_py():
        raw = texts.view(pa.large_binary())  # a file may hold bytes that are not UTF-8
        old = (text.decode("utf-8", "surrogateescape") for text in raw.filter(changes).to_pylist())
        new = pa.array([canonical(text, form).encode("utf-8", "surrogateescape") for text in old], pa.large_binary())
        strings = _strings(pc.replace_with_mask(raw, changes, new))
    return *strings, characters.table()


def _strings(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    _, offsets, data = texts.buffers()
    where = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return where, np.frombuffer(data or b"", np.uint8)


@cache
def _permutations(count: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.RandomState(1)
    factor = draw.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)  # odd: a bijection of 32 bits
    return factor, draw.randint(0, 1 << 32, count, dtype=np.uint32)
