"""Nothing of the holdout is trained on: word n-grams that a prompt shares with one holdout prompt.

After Brown et al., "Language models are few-shot learners" (2020), appendix C, but as a share: a common closing line is no leak.
"""

from collections import Counter
from typing import NamedTuple

import pyarrow as pa
import xxhash

from engine.contract.curation import Decontaminate
from engine.similarity.words import ngrams


class Index(NamedTuple):
    """The n-grams of the holdout: some 100 bytes each, in every process that looks something up."""

    grams: dict[int, tuple[int, ...]]  # hash -> numbers of the holdout prompts that contain it
    prompt_ids: list[str]


def build_index(holdout: pa.Table, section: Decontaminate) -> Index:
    """Return the index of `holdout` (prompt_id, text)."""
    found: dict[int, tuple[int, ...]] = {}
    rows = holdout.sort_by("prompt_id")
    for number, text in enumerate(rows["text"].to_pylist()):
        for gram in _grams(text, section.ngram):
            found[gram] = (*found.get(gram, ()), number)
    return Index(found, rows["prompt_id"].to_pylist())


def contaminations(texts: list[str], index: Index, section: Decontaminate) -> dict[str, tuple[str, float]]:
    """Return for each text that is contaminated the holdout prompt it shares most n-grams with, and the share of its own."""
    out = {}
    for text in texts:
        grams = _grams(text, section.ngram)
        shared = Counter(number for gram in grams for number in index.grams.get(gram, ()))
        if shared:
            number = min(shared, key=lambda number: (-shared[number], number))
            if shared[number] / len(grams) >= section.overlap:
                out[text] = (index.prompt_ids[number], shared[number] / len(grams))
    return out


def _grams(text: str, size: int) -> set[int]:
    return {xxhash.xxh3_64_intdigest(gram.encode("utf-8", "surrogatepass")) for gram in ngrams(text, size)}
