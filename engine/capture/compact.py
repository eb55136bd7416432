"""Distributions in few bytes: ids in two bytes (four for large vocabularies), log-probabilities and tails in one.

A log-probability is stored as the square root of its negative, in 255 steps down to LOWEST: near 0, where the mass is, the step is
0.0003 nats, at -4 it is 0.07. A probability is off by at most half a step in its logarithm, so by 3.5 % where it is e^-4, 0.9 %
where it is 0.75; reading divides by the sum of all entries and the tail, so that each token's distribution sums to 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.inference.scoring import Distribution

LOWEST = -20.0  # nats; what is less likely is stored as this
STEPS = 255
MOST = 254  # entries of a token: with the target's own there are at most 255, whose number is one byte
LEVELS = (16, 32, 64, 128, MOST)
"""Numbers of entries that are paid for: a capture with fewer is cut from the next level, in this run or a later one."""
BINARY = ("counts", "ranks", "ids", "codes", "tails")


class Entries(NamedTuple):
    """Flat distributions of T tokens with E entries in all: those of token t are `starts[t]` to `starts[t + 1]`."""

    starts: np.ndarray  # int64 [T + 1]
    ranks: np.ndarray  # uint8 [T], which entry of a token is the target's; 0 = the model's first choice
    ids: np.ndarray  # int32 [E], most probable first; a target beyond the first k is an entry more, at the end
    codes: np.ndarray  # uint8 [E]
    tails: np.ndarray  # uint8 [T]

    @property
    def targets(self) -> np.ndarray:
        """Ids of the targets' tokens, int32 [T]."""
        return self.ids[self.starts[:-1] + self.ranks]

    @property
    def tokens(self) -> np.ndarray:
        """Token of each entry, int64 [E]."""
        return np.repeat(np.arange(len(self.ranks)), np.diff(self.starts))


NOTHING = Entries(np.zeros(1, np.int64), *(np.zeros(0, kind) for kind in (np.uint8, np.int32, np.uint8, np.uint8)))


def code(logprobs: np.ndarray) -> np.ndarray:
    """Return log-probabilities in nats as codes, uint8; -inf is LOWEST."""
    depth = np.sqrt(np.minimum(-np.minimum(logprobs, 0.0), -LOWEST) / -LOWEST)
    return np.rint(depth * STEPS).astype(np.uint8)


def decode(codes: np.ndarray) -> np.ndarray:
    """Return the log-probabilities of codes, float64, in nats."""
    return LOWEST * np.square(codes.astype(np.float64) / STEPS)


def level(k: int) -> int:
    """Return the number of entries that is paid for where k are wanted."""
    return next(each for each in LEVELS if each >= k)


def entries(scored: Distribution) -> Entries:
    """Return the distribution of one target, its most probable ids first."""
    hit = scored.ids == scored.tokens[:, None]
    is_among = hit.any(axis=1)
    allowed = scored.ids >= 0
    counts = allowed.sum(axis=1) + ~is_among
    ids = np.column_stack([scored.ids, scored.tokens])
    logprobs = np.column_stack([scored.logprobs, scored.own])
    kept = np.column_stack([allowed, ~is_among])
    ranks = np.where(is_among, hit.argmax(axis=1), allowed.sum(axis=1)).astype(np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(is_among, scored.tail, np.log(np.maximum(np.exp(scored.tail) - np.exp(scored.own), 0.0)))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Entries(starts, ranks, ids[kept].astype(np.int32), code(logprobs[kept]), code(rest))


def cut(whole: Entries, *, k: int, mass: float | None = None) -> Entries:
    """Return the first k entries of each token; with `mass` as few of them as reach that share. The target's own entry stays.

    What is dropped is added to the tail: ids and codes are those of a capture with the smaller k, the tail's code is at most one
    step from it.
    """
    token, place = whole.tokens, np.arange(len(whole.ids)) - np.repeat(whole.starts[:-1], np.diff(whole.starts))
    is_target = place == whole.ranks[token]
    probs, tails = np.exp(decode(whole.codes)), np.exp(decode(whole.tails))
    kept = place < k
    if mass is not None:
        total = np.bincount(token, probs, len(tails)) + tails
        summed = np.cumsum(probs)
        before = summed - probs - np.concatenate([[0.0], summed])[whole.starts[:-1]][token]
        kept &= before < mass * total[token] - 1e-12
    dropped = np.bincount(token, np.where(kept | is_target, 0.0, probs), len(tails))
    kept |= is_target
    with np.errstate(divide="ignore"):
        codes = np.where(dropped > 0, code(np.log(tails + dropped)), whole.tails).astype(np.uint8)
    counts = np.bincount(token, kept, len(tails)).astype(np.int64)
    ranks = np.where(is_target[kept])[0] - np.concatenate([[0], np.cumsum(counts)])[:-1]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Entries(starts, ranks.astype(np.uint8), whole.ids[kept], whole.codes[kept], codes)


def probabilities(stored: Entries) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each entry, float64 [E], and of each tail, float64 [T]; they sum to 1 a token."""
    probs, tails = np.exp(decode(stored.codes)), np.exp(decode(stored.tails))
    tails = np.where(stored.tails == STEPS, 0.0, tails)
    total = np.bincount(stored.tokens, probs, len(tails)) + tails
    return probs / total[stored.tokens], tails / total


def pack(stored: Entries) -> dict[str, object]:
    """Return the columns of a row: those of BINARY, and `wide`, whether ids take four bytes."""
    wide = bool(len(stored.ids)) and int(stored.ids.max()) > np.iinfo(np.uint16).max
    return {
        "wide": wide,
        "counts": np.diff(stored.starts).astype(np.uint8).tobytes(),
        "ranks": stored.ranks.tobytes(),
        "ids": stored.ids.astype("<u4" if wide else "<u2").tobytes(),
        "codes": _steps(stored).tobytes(),
        "tails": stored.tails.tobytes(),
    }


def unpack(row: Mapping[str, Any]) -> Entries:
    """Return the distributions of a row with the columns of `pack`."""
    counts = np.frombuffer(row["counts"], np.uint8).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    steps = np.frombuffer(row["codes"], np.uint8).astype(np.int64)
    total = np.cumsum(steps)
    codes = (total - np.repeat((total - steps)[starts[:-1]], counts)) % (STEPS + 1)
    return Entries(
        starts,
        np.frombuffer(row["ranks"], np.uint8),
        np.frombuffer(row["ids"], "<u4" if row["wide"] else "<u2").astype(np.int32),
        codes.astype(np.uint8),
        np.frombuffer(row["tails"], np.uint8),
    )


def _steps(stored: Entries) -> np.ndarray:
    """Return each code less that of the entry before it, modulo 256; the first of a token as it is. They compress to half."""
    steps = np.diff(stored.codes, prepend=np.uint8(0))  # uint8: wraps
    steps[stored.starts[:-1]] = stored.codes[stored.starts[:-1]]
    return steps


def joined(parts: Sequence[Entries]) -> Entries:
    """Return the distributions of several targets one after the other."""
    parts = [NOTHING, *parts]
    counts = [np.diff(part.starts) for part in parts]
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ranks", "ids", "codes", "tails"))
    return Entries(starts, *columns)
