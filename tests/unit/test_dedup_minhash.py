"""Signatures against datasketch, bands against their formula, groups against brute force."""

from collections.abc import Sequence

import datasketch
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.contract.prompts import Copies
from engine.dedup.minhash import (
    FALSE_NEGATIVE_WEIGHT,
    FALSE_POSITIVE_WEIGHT,
    NOTHING,
    band_keys,
    bands,
    estimate,
    minhash,
    text_keys,
)
from engine.dedup.words import ngrams, normalize, uses_characters, words

CHINESE = "\u6211\u4eec\u6536\u5230\u4e86\u60a8\u7684\u8ba2\u5355\uff0c\u8bf7\u5c3d\u5feb\u53d1\u8d27\u3002"
ARABIC = "\u0646\u0637\u0644\u0628 \u062b\u0645\u0627\u0646\u064a \u0645\u0631\u0627\u064a\u0627 \u0632\u0631\u0642\u0627\u0621"
HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902"
THAI = "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a"
EMOJI = "\u2764\ufe0f \U0001f600\U0001f44d\U0001f3fd"
TEXTS = [
    *("Please send us 8 blue hand mirrors, order TR9534.", "one word", "", " ", "!!!", "_", "a b c " * 40),
    "a\0b\x07c\x1fd\u0085e \x7f",
    *(CHINESE, ARABIC, HINDI, THAI, EMOJI, "I like it " + EMOJI, "mixed: " + CHINESE, "mixed, more words than that: " + CHINESE),
    *("STRASSE stra\u00dfe \u1fb7\u0390\ufb03 \u0130stanbul \u01f0", "\U000e0100\U0010ffff\U0003fffd", "caf\u00e9 cafe\u0301"),
    " ".join(map(str, range(9000))),  # more n-grams than the kernel takes at a time
    "\u4f60\u597d " * 50 + "".join(map(chr, range(0x4E00, 0x9F00))),
]


def token_hash(token: str) -> int:
    """FNV-1a, 64 bits."""
    key = 0xCBF29CE484222325
    for byte in token.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    return key


def gram_hash(tokens: Sequence[str]) -> int:
    """The hash that the module states: a polynomial over the tokens, finalized."""
    key = 0
    for token in tokens:
        key = (key * 0x9E3779B97F4A7C15 + token_hash(token)) % 2**64
    key = (key ^ key >> 33) * 0xFF51AFD7ED558CCD % 2**64
    key = (key ^ key >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return (key ^ key >> 33) % 2**32


def reference(text: str, copies: Copies) -> list[int]:
    """The signature by datasketch, over the n-grams of the definition."""
    found = datasketch.MinHash(copies.num_perm, seed=1, scheme="affine32", hashfunc=gram_hash)
    found.update_batch(ngrams(text, copies.ngram, copies.unit, copies.normalization))
    return found.hashvalues.tolist()


@pytest.mark.parametrize("unit", ["auto", "word", "character"])
def test_signature_of_any_text_equals_datasketch(unit):
    copies = Copies(ngram=3, num_perm=24, unit=unit)
    found = minhash(pa.array(TEXTS), copies).tolist()
    assert found == [reference(text, copies) for text in TEXTS]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(), max_size=6), st.integers(1, 9), st.sampled_from(["auto", "word", "character"]))
def test_signatures_and_text_keys_of_arbitrary_texts_follow_the_definition(texts, size, unit):
    copies = Copies(ngram=size, num_perm=8, unit=unit)
    column = pa.array(texts, pa.large_string())
    assert minhash(column, copies).tolist() == [reference(text, copies) for text in texts]
    assert len(set(text_keys(column).tolist())) == len({normalize(text) for text in texts})


@pytest.mark.parametrize("letter", ["a", "\u00e4"])
@pytest.mark.parametrize("space", [" ", "\u3000"])
def test_what_lies_on_the_edge_of_a_block_is_read_as_anywhere_else(letter, space):
    texts = [
        space * before + letter * fill + space * gap + "B" * after + space * after
        for before in (0, 1, 9)
        for fill in (*range(4084, 4098), 9000)
        for gap, after in ((0, 0), (1, 1), (3, 8))
    ]
    column, copies = pa.array(texts), Copies(ngram=2, num_perm=8)
    assert minhash(column, copies)[::9].tolist() == [reference(text, copies) for text in texts[::9]]
    keys: dict[str, set[int]] = {}
    for text, key in zip(texts, text_keys(column).tolist(), strict=True):
        keys.setdefault(normalize(text), set()).add(key)
    assert all(len(one) == 1 for one in keys.values()) and len(set.union(*keys.values())) == len(keys)


def test_kernel_knows_every_character_as_the_definition_does():
    every = [chr(code) for code in [*range(0xD800), *range(0xE000, 0x32400), *range(0xE0000, 0xE0200), 0x10FFFF]]
    around = pa.array([f"a{character}b" for character in every])
    pairs_of = set(zip(text_keys(around).tolist(), (normalize(f"a{character}b") for character in every), strict=True))
    assert len(pairs_of) == len({key for key, _ in pairs_of}) == len({text for _, text in pairs_of})
    is_a_word = (minhash(pa.array(every), Copies(num_perm=1)) != NOTHING).ravel().tolist()
    assert is_a_word == [bool(words(character)) for character in every]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_signatures_of_chunks_slices_and_nulls_are_those_of_their_texts(kind):
    copies = Copies(num_perm=16)
    texts = ["left out", *TEXTS, None, "the last one of them"]
    column = pa.chunked_array([pa.array(texts[:4], kind).slice(1), pa.array([], kind), pa.array(texts[4:], kind)])
    plain = pa.array([text or "" for text in texts[1:]])
    assert minhash(column, copies).tolist() == minhash(plain, copies).tolist()
    assert text_keys(column).tolist() == text_keys(plain).tolist()
    assert minhash(pa.chunked_array([], kind), copies).shape == (0, 16)
    assert text_keys(pa.array([None, None], kind)).tolist() == text_keys(pa.array(["", " "])).tolist()


def test_numbers_are_signed_as_they_are_written():
    numbers, written = pa.array([12, None, 3]), pa.array(["12", "", "3"])
    assert minhash(numbers, Copies()).tolist() == minhash(written, Copies()).tolist()
    assert text_keys(numbers).tolist() == text_keys(written).tolist()


def test_text_without_a_word_is_an_exact_copy_of_its_like_and_a_near_copy_of_nothing():
    column = pa.array(["", "  ", "!!!", EMOJI, EMOJI + " "])
    minima = minhash(column, Copies())
    assert (minima == NOTHING).all()
    assert estimate(minima, minima).tolist() == [0] * len(column)
    keys = text_keys(column).tolist()
    assert (keys[0] == keys[1], keys[3] == keys[4], len(set(keys))) == (True, True, 3)


def test_text_of_fewer_words_than_an_ngram_is_one_ngram():
    minima = minhash(pa.array(["One word", "one, word!", "word one", "word"]), Copies(ngram=5))
    assert estimate(minima[[0, 0, 0]], minima[[1, 2, 3]]).tolist() == [1, 0, 0]


def test_near_copies_of_unspaced_texts_are_found_uses_characters_and_missed_by_words():
    text = "".join(map(chr, range(0x4E00, 0x4E60)))
    column = pa.array([text, text[:50] + "\u9f00" + text[51:]])
    auto, word = (minhash(column, Copies(unit=unit)) for unit in ("auto", "word"))
    assert estimate(auto[:1], auto[1:])[0] > 0.8
    assert estimate(word[:1], word[1:])[0] == 0


def test_unit_auto_takes_words_wherever_something_stands_between_them():
    assert all(map(uses_characters, [CHINESE, THAI]))
    assert not any(map(uses_characters, [ARABIC, HINDI, "\ud55c\uad6d\uc5b4 \ub2e8\uc5b4", "abc", "", "!!!"]))


def test_signature_of_a_text_of_ten_megabytes_is_that_of_its_ngrams():
    period = " ".join(f"w{i}" for i in range(1000)) + " "
    long = period * (10_000_000 // len(period))
    copies = Copies(num_perm=16, ngram=5)
    minima = minhash(pa.array([long, period * 2, "x" * 10_000_000]), copies)
    assert minima[0].tolist() == minima[1].tolist()
    assert (minima[2] != NOTHING).all()


def test_estimate_of_overlapping_texts_is_near_their_true_jaccard():
    left = " ".join(f"w{i}" for i in range(0, 90))
    right = " ".join(f"w{i}" for i in range(30, 120))
    minima = minhash(pa.array([left, right]), Copies(ngram=1, num_perm=512))
    assert estimate(minima[:1], minima[1:])[0] == pytest.approx(60 / 120, abs=0.08)


@pytest.mark.parametrize(("threshold", "num_perm"), [(0.3, 64), (0.5, 128), (0.7, 128), (0.8, 128), (0.95, 100)])
def test_bands_are_the_optimum_that_datasketch_finds(threshold, num_perm):
    reference = datasketch.MinHashLSH(threshold, num_perm, weights=(FALSE_POSITIVE_WEIGHT, FALSE_NEGATIVE_WEIGHT))
    assert bands(Copies(threshold=threshold, num_perm=num_perm)) == (reference.b, reference.r)


def test_bands_find_nearly_every_pair_well_above_the_threshold_or_are_those_given():
    cut = bands(Copies(threshold=0.7, num_perm=128))
    assert 1 - (1 - 0.8**cut.rows) ** cut.bands >= 0.99
    assert bands(Copies(bands=20, rows=5)) == (20, 5)


@pytest.mark.parametrize(("section", "message"), [({"bands": 20}, "give both"), ({"bands": 20, "rows": 7}, "at most num_perm 128")])
def test_bands_that_do_not_fit_are_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        Copies(**section)


def test_band_keys_are_equal_exactly_where_the_bands_are():
    minima = np.arange(32, dtype=np.uint32).reshape(2, 16)
    minima[1, :4] = minima[0, :4]
    cut = bands(Copies(num_perm=16, bands=4, rows=4))
    keys = band_keys(minima, cut)
    assert (keys[0] == keys[1]).tolist() == [True, False, False, False]
    assert len(set(band_keys(np.zeros((1, 16), np.uint32), cut)[0].tolist())) == 4


def test_words_and_normal_fold_case_and_white_space():
    assert words("Hello, WORLD-42!") == ["hello", "world", "42"]
    assert words(HINDI) == HINDI.split()
    assert normalize("  Hello\n\tWorld ") == normalize("hello world")
    assert normalize("hello, world") != normalize("hello world")
