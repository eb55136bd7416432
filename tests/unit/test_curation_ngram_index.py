"""The protected text that shares most n-grams is found exactly, with work that grows with the texts and not with their square."""

from collections import Counter
from typing import ClassVar

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.curation import Decontaminate
from engine.curation import ngram_index
from engine.curation.ngram_index import HOLDOUT, build_index, overlaps, protected
from engine.dedup.words import ngrams

SECTION = Decontaminate(ngram=2, overlap=0.5)
WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8).map(" ".join)


def known(texts, section=SECTION):
    table = pa.table({"prompt_id": [f"h{number:05d}" for number in range(len(texts))], "text": texts})
    return build_index(protected(table, HOLDOUT), section)


def by_comparing_all(text, texts, size):
    """Return the first of `texts` that shares most n-grams with `text`, and the share of them."""
    mine = {*ngrams(text, size)}
    shared = [len(mine & {*ngrams(other, size)}) for other in texts]
    best = max(shared, default=0)
    return (f"h{shared.index(best):05d}", best / len(mine)) if best else None


@settings(deadline=None, max_examples=60)
@given(st.lists(WORDS, max_size=12), st.lists(WORDS, min_size=1, max_size=6), st.integers(0, 4))
def test_match_is_that_of_comparing_all_whatever_counts_as_boilerplate(texts, asked, rare):
    before = ngram_index.RARE, ngram_index.SETS
    ngram_index.RARE, ngram_index.SETS = rare, 2
    try:
        found = overlaps(asked, known(texts), SECTION)
    finally:
        ngram_index.RARE, ngram_index.SETS = before
    expected = {text: by_comparing_all(text, texts, 2) for text in asked}
    assert {text: (match.id, match.similarity) for text, match in found.items()} == {k: v for k, v in expected.items() if v}


class Counted(list):
    """The numbers of one n-gram; counts how many are read in all."""

    read: ClassVar[Counter[str]] = Counter()

    def __iter__(self):
        Counted.read["numbers"] += len(self)
        return super().__iter__()


def numbers_read(count):
    """Return how many numbers of texts are read where `count` texts and `count` protected texts share one instruction."""
    instruction = " ".join(f"word{n}" for n in range(40))
    section = Decontaminate(ngram=8)
    index = known([f"{instruction} held {number}" for number in range(count)], section)
    index = index._replace(grams={gram: Counted(numbers) for gram, numbers in index.grams.items()})
    Counted.read.clear()
    found = overlaps([f"{instruction} asked {number}" for number in range(count)], index, section)
    assert {match.id for match in found.values()} == {"h00000"} and len(found) == count
    return Counted.read["numbers"]


def test_work_grows_with_the_texts_that_share_an_instruction():
    small, large = numbers_read(200), numbers_read(800)
    assert small < large <= 4 * small
