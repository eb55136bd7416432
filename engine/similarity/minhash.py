"""MinHash of word n-grams: signatures, the keys of their bands, and the similarity that two signatures estimate.

Broder, "On the resemblance and containment of documents" (1997): the share of equal minima over random permutations estimates the
Jaccard similarity of the two sets; its standard error is sqrt(J (1 - J) / num_perm), 0.035 at J = 0.8 and 128 permutations.
Banding after Indyk and Motwani (1998): texts that agree in all rows of one band become a candidate pair.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import xxhash

from engine.contract.prompts import Copies

RECALL = 0.95  # of the pairs that are exactly at the threshold; each pair is checked afterwards, so precision costs nothing

_WORD = re.compile(r"\w+")
_GRAMS_AT_ONCE = 4096  # bounds the memory of a very long text
_U32, _U64 = np.uint32, np.uint64


class Bands(NamedTuple):
    """How a signature is cut: `count` bands of `rows` minima each."""

    count: int
    rows: int


def words(text: str) -> list[str]:
    """Return the words of `text`, case folded, without punctuation."""
    return _WORD.findall(text.casefold())


def normal(text: str) -> str:
    """Return `text` as it is compared for exact copies: case folded, runs of white space as one space."""
    return " ".join(text.casefold().split())


def ngrams(text: str, size: int) -> list[str]:
    """Return every run of `size` words of `text`; the whole text if it has fewer, so that nothing has no n-gram."""
    found = words(text)
    if len(found) < size:
        return [" ".join(found) or text.strip()]
    return [" ".join(found[start : start + size]) for start in range(len(found) - size + 1)]


def signatures(texts: Sequence[str], copies: Copies) -> np.ndarray:
    """Return the minima, (texts, num_perm) of uint32: as datasketch 2 (scheme `affine32`, seed 1) finds over xxh32 of n-grams."""
    factor, shift = _permutations(copies.num_perm)
    out = np.full((len(texts), copies.num_perm), _U32(0xFFFFFFFF))
    for row, text in enumerate(texts):
        grams = {xxhash.xxh32_intdigest(gram.encode("utf-8", "surrogatepass")) for gram in ngrams(text, copies.ngram)}
        hashes = _mix(np.fromiter(grams, _U32, len(grams)))
        for start in range(0, len(hashes), _GRAMS_AT_ONCE):
            part = hashes[start : start + _GRAMS_AT_ONCE, None] * factor + shift
            np.minimum(out[row], part.min(axis=0), out=out[row])
    return out


def bands(copies: Copies) -> Bands:
    """Return the widest bands that still find RECALL of the pairs at the threshold: 1 - (1 - t^rows)^count."""
    for rows in range(copies.num_perm, 1, -1):
        count = copies.num_perm // rows
        if 1 - (1 - copies.threshold**rows) ** count >= RECALL:
            return Bands(count, rows)
    return Bands(copies.num_perm, 1)


def band_keys(minima: np.ndarray, cut: Bands) -> np.ndarray:
    """Return one 64-bit key per band, (texts, bands): equal for equal bands, different between bands."""
    parts = minima[:, : cut.count * cut.rows].reshape(len(minima), cut.count, cut.rows).astype(_U64)
    keys = np.broadcast_to(np.arange(1, cut.count + 1, dtype=_U64), parts.shape[:2]) * _U64(0x9E3779B97F4A7C15)
    for row in range(cut.rows):
        keys = (keys ^ parts[:, :, row]) * _U64(0xFF51AFD7ED558CCD)
        keys ^= keys >> _U64(32)
    return keys


def estimate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the Jaccard similarity, row by row, that two arrays of signatures estimate."""
    return (left == right).mean(axis=1, dtype=np.float64)


@cache
def _permutations(count: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.RandomState(1)
    factor = draw.randint(0, 1 << 31, count, dtype=_U32) * _U32(2) + _U32(1)  # odd: a bijection of 32 bits
    return factor, draw.randint(0, 1 << 32, count, dtype=_U32)


def _mix(hashes: np.ndarray) -> np.ndarray:
    """The finalizer of MurmurHash3 (Appleby, public domain): spreads what a multiplication alone leaves in the high bits."""
    hashes = (hashes ^ (hashes >> _U32(16))) * _U32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> _U32(13))) * _U32(0xC2B2AE35)
    return hashes ^ (hashes >> _U32(16))
