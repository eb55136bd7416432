"""The protected text that shares most n-grams is found exactly, with work that grows with the texts and not with their square."""

from collections import Counter
from typing import ClassVar

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.curation import Curation, Decontaminate
from engine.curation import ngram_index
from engine.curation.ngram_index import HOLDOUT, build_index, overlaps, protected, sample_prompts, with_shared
from engine.dedup.words import ngrams
from engine.rows import PROMPT

SECTION = Decontaminate(ngram=2, overlap=0.5)
WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8).map(" ".join)


def known(texts, section=SECTION):
    table = pa.table({"prompt_id": [f"h{number:05d}" for number in range(len(texts))], "text": texts})
    return build_index(protected(table, HOLDOUT), section)


def by_comparing_all(text, texts, size):
    """Return the first of `texts` that resembles `text` most, and the larger share of n-grams of either that the other has."""
    mine, theirs = {*ngrams(text, size)}, [{*ngrams(other, size)} for other in texts]
    shared = [(len(mine & other) / min(len(mine), len(other)), len(mine & other)) for other in theirs]
    best = max(shared, default=(0, 0))
    return (f"h{shared.index(best):05d}", best[0]) if best[1] else None


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


def test_protected_text_within_a_long_one_is_found():
    question = "a train leaves oslo at nine and another leaves bergen at ten when do they meet"
    long = " ".join(f"word{number}" for number in range(300))
    section = Decontaminate()
    index = known([question, "how many boxes are left on the shelf when seven of them are sold today"], section)
    found = overlaps([f"{long} {question} {long}", f"{long} {question[:20]}", long], index, section)
    assert {text: match.similarity for text, match in found.items()} == {f"{long} {question} {long}": 1.0}
    instruction = " ".join(f"instruction{number}" for number in range(20))
    index = known([f"{instruction} {question}", f"{instruction} how many boxes"], section)
    sampled = pa.Table.from_pylist([{"text": f"{instruction} {number}", "source": "a"} for number in range(20)], schema=PROMPT)
    index = with_shared(index, sample_prompts(sampled, "train", ["a"]), Curation())
    assert overlaps([f"{instruction} {long} {question}"], index, section).popitem()[1].similarity == 9 / 16


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
