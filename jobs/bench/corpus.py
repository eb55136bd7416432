"""A corpus with planted duplicates, the same for the same size: texts of some hundred words with Zipf-like frequencies.

Of a hundred texts 3 are exact duplicates of an earlier one, 20 near-duplicates (at most every 50th word differs: the Jaccard
similarity of the word 5-grams is at least 0.8), and 1 is a variant of one boilerplate text. The others are unrelated.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

VOCABULARY = 50_000
PART = 200_000  # texts that are generated at once; a duplicate and its original are in one part
ROWS_PER_FILE = 25_000
EXACT, NEAR, BOILERPLATE = 0.03, 0.20, 0.01
FRESH_FIRST = 100  # originals at the start of a part
EVERY = 50  # words, of which one may be replaced


def write(folder: Path, rows: int) -> None:
    """Write `rows` texts into `folder`: `id`, `text`, and `cluster`: the id of the original, or -1 for a text without duplicate."""
    names = np.array(_vocabulary(), object)
    folder.mkdir(parents=True)
    boilerplate = _draw(np.random.default_rng(0), 150)
    for start in range(0, rows, PART):
        words, clusters = _texts(np.random.default_rng([rows, start]), min(PART, rows - start), boilerplate)
        clusters[clusters > 0] += start  # the boilerplate is one cluster, whose original is the first text of all
        for first in range(0, len(words), ROWS_PER_FILE):
            part = slice(first, first + ROWS_PER_FILE)
            texts = [" ".join(names[numbers]).capitalize() + "." for numbers in words[part]]
            ids = np.arange(start + first, start + first + len(texts))
            table = pa.table({"id": ids, "text": texts, "cluster": clusters[part]})
            pq.write_table(table, folder / f"part-{ids[0]:09d}.parquet", compression="zstd", row_group_size=5_000)


def _texts(rng: np.random.Generator, rows: int, boilerplate: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the words of each text, by number, and its cluster: 0 is the boilerplate's."""
    lengths = np.clip(rng.lognormal(np.log(106), 0.5, rows), 12, 1_500).astype(int)
    kinds = rng.choice(4, rows, p=[1 - EXACT - NEAR - BOILERPLATE, EXACT, NEAR, BOILERPLATE])
    kinds[:FRESH_FIRST] = 0
    texts = np.split(_draw(rng, lengths.sum()), np.cumsum(lengths)[:-1])
    clusters = np.full(rows, -1)
    texts[0], clusters[0] = boilerplate, 0
    for row in np.flatnonzero(kinds):
        source = 0 if kinds[row] == 3 else int(rng.integers(1, row))
        source = source if clusters[source] < 0 else int(clusters[source])  # a duplicate of a duplicate would be less similar
        copy = texts[source].copy()
        if kinds[row] != 1:
            places = rng.integers(len(copy), size=rng.integers(0, len(copy) // EVERY + 1))
            copy[places] = _draw(rng, len(places))
        texts[row], clusters[row], clusters[source] = copy, source, source
    return texts, clusters


def _draw(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the numbers of `count` words; low numbers are frequent."""
    return ((VOCABULARY + 3) ** rng.random(count)).astype(np.int32) - 1


def _vocabulary() -> list[str]:
    """Return distinct words, the frequent ones short."""
    onsets, vowels = "b d f g h k l m n p r s t v w z".split(), "a e i o u ai ea ou".split()
    syllables = [onset + vowel for onset in onsets for vowel in vowels]
    longer = [first + second for first in syllables for second in syllables]
    every = [*syllables, *longer, *(word + end for end in syllables for word in longer)]
    return every[: VOCABULARY + 2]
