"""N-grams that most texts of a group share, such as the words of an instruction that every prompt repeats.

Their document frequency is counted in a sample: of each group the SAMPLE distinct texts with the smallest text keys (a bottom-k
sample: Cohen and Kaplan, "Summarizing data using bottom-k sketches", 2007). It is the same for any order and any blocks of the
texts, and samples of parts merge into that of the whole. Up to SAMPLE texts the frequency is exact; beyond, its standard error is
at most 0.025.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.prompts import Copies
from engine.dedup.words import ngrams
from engine.records.dedup import SharedWords

SAMPLE = 400
FEWEST = 10  # texts that share an n-gram: fewer may be near copies of each other
SHOWN = 160  # characters of the words that are shown
SAMPLED = pa.schema([("group", pa.string()), ("key", pa.uint64()), ("text", pa.string())])

Ngram = tuple[str, ...]


class Shared(NamedTuple):
    """What the texts of groups share."""

    grams: frozenset[Ngram]  # n-grams that more than `max_df` of the texts of some group have
    groups: dict[str, SharedWords]  # of each group in which some n-gram is in FEWEST texts


def bottom(groups: pa.Array | pa.ChunkedArray, keys: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows with the SAMPLE smallest distinct `keys` of each group, by group and key."""
    codes = pc.index_in(groups, pc.unique(groups)).to_numpy()
    order = np.lexsort((keys, codes))
    codes, keys = codes[order], keys[order]
    is_new = (np.diff(codes, prepend=-1) != 0) | (np.diff(keys, prepend=~keys[:1]) != 0)
    order, codes = order[is_new], codes[is_new]
    return order[np.arange(len(codes)) - np.searchsorted(codes, codes) < SAMPLE]


def merge(samples: Sequence[pa.Table]) -> pa.Table:
    """Return the sample of the whole, SAMPLED, from those of its parts."""
    every = pa.concat_tables([SAMPLED.empty_table(), *samples])
    return every.take(pa.array(bottom(every["group"], every["key"].to_numpy())))


def shared(sampled: pa.Table, copies: Copies) -> Shared:
    """Return the n-grams of `copies` that more than `copies.max_df` of the texts of a group have; `sampled` is SAMPLED."""
    grams: set[Ngram] = set()
    groups: dict[str, SharedWords] = {}
    for group in sorted(pc.unique(sampled["group"]).to_pylist()):
        texts = sampled.filter(pc.equal(sampled["group"], group)).sort_by("key")["text"].to_pylist()
        found = [dict.fromkeys(ngrams(text, copies.ngram, copies.unit, copies.normalization)) for text in texts]
        frequency = Counter(gram for of_text in found for gram in of_text)
        if (most := max(frequency.values(), default=0)) < FEWEST:
            continue
        common = {gram for gram, count in frequency.items() if count >= FEWEST and count > copies.max_df * len(texts)}
        grams |= common
        widespread = {gram for gram, count in frequency.items() if 2 * count > most}
        first = next(of_text for of_text in found if not widespread.isdisjoint(of_text))
        words = _passage([*first], widespread)
        groups[group] = SharedWords(ngrams=len(common), share=round(most / len(texts), 4), words=words)
    return Shared(frozenset(grams), groups)


def _passage(grams: Sequence[Ngram], widespread: set[Ngram]) -> str:
    """Return the longest run of `widespread` n-grams among those of a text, as its words."""
    best: list[Ngram] = []
    run: list[Ngram] = []
    for gram in grams:
        run = [*run, gram] if gram in widespread else []
        best = max(best, run, key=len)
    tokens = [*best[0], *(gram[-1] for gram in best[1:])]
    text = ("" if all(len(token) == 1 for token in tokens) else " ").join(tokens)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
