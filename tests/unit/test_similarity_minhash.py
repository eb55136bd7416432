"""Signatures against datasketch, bands against their formula, groups against brute force."""

import random

import datasketch
import numpy as np
import pyarrow as pa
import pytest
import xxhash

from engine.contract.prompts import Copies
from engine.similarity.buckets import ALL_PAIRS_UP_TO, keyed, pairs, text_key
from engine.similarity.components import group, keepers
from engine.similarity.minhash import RECALL, band_keys, bands, estimate, ngrams, normal, signatures, words

TEXTS = ["Please send us 8 blue hand mirrors, order TR9534.", "one word", "", "!!!", "\U0001f600 \u4f60\u597d", "a b c " * 40]
TEXTS.append(" ".join(map(str, range(9000))))


@pytest.mark.parametrize("text", TEXTS)
def test_signature_of_any_text_equals_datasketch(text):
    copies = Copies(ngram=3, num_perm=64)
    reference = datasketch.MinHash(num_perm=64, seed=1, scheme="affine32", hashfunc=xxhash.xxh32_intdigest)
    reference.update_batch([gram.encode() for gram in ngrams(text, 3)])
    assert signatures([text], copies)[0].tolist() == reference.hashvalues.tolist()


def test_estimate_of_overlapping_texts_is_near_their_true_jaccard():
    copies = Copies(ngram=1, num_perm=512)
    left = " ".join(f"w{i}" for i in range(0, 90))
    right = " ".join(f"w{i}" for i in range(30, 120))
    found = estimate(signatures([left], copies), signatures([right], copies))[0]
    assert found == pytest.approx(60 / 120, abs=0.08)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_bands_reach_the_recall_and_are_the_widest_that_do(threshold):
    copies = Copies(threshold=threshold, num_perm=128)
    cut = bands(copies)
    assert 1 - (1 - threshold**cut.rows) ** cut.count >= RECALL
    wider = cut.rows + 1
    assert 1 - (1 - threshold**wider) ** (128 // wider) < RECALL


def test_band_keys_are_equal_exactly_where_the_bands_are():
    copies = Copies(num_perm=16)
    minima = np.arange(32, dtype=np.uint32).reshape(2, 16)
    minima[1, :4] = minima[0, :4]
    keys = band_keys(minima, bands(copies)._replace(count=4, rows=4))
    assert (keys[0] == keys[1]).tolist() == [True, False, False, False]
    same = np.zeros((1, 16), np.uint32)
    assert len(set(band_keys(same, bands(copies)._replace(count=4, rows=4))[0].tolist())) == 4


def test_words_and_normal_fold_case_and_white_space():
    assert words("Hello, WORLD-42!") == ["hello", "world", "42"]
    assert normal("  Hello\n\tWorld ") == normal("hello world")
    assert normal("hello, world") != normal("hello world")


def test_pairs_of_a_giant_bucket_are_a_star_around_its_smallest_id():
    ids = pa.array([f"{i:03d}" for i in range(ALL_PAIRS_UP_TO + 5)])
    found = pairs(keyed(ids, near=np.full(len(ids), 7, np.uint64)))
    assert found.num_rows == len(ids) - 1
    assert set(found["a"].to_pylist()) == {"000"}


def test_pairs_of_different_kinds_never_mix():
    ids = pa.array(["a", "b"])
    found = pairs(keyed(ids, exact=np.array([1, 2], np.uint64), near=np.array([2, 3], np.uint64)))
    assert found.num_rows == 0


def test_keyed_leaves_out_a_null_key():
    found = keyed(pa.array([1, 2]), id=pa.array([None, 5], pa.uint64()))
    assert found.to_pylist() == [{"key": 5, "kind": "id", "id": 2}]


def test_keepers_of_a_chain_is_its_smallest_node():
    assert keepers(6, np.array([4, 1, 3]), np.array([3, 5, 1])).tolist() == [0, 1, 2, 1, 1, 1]
    assert keepers(3, np.array([], int), np.array([], int)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_group_of_random_texts_joins_exactly_what_brute_force_joins(seed):
    rng = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(60)]
    base = [[rng.choice(vocabulary) for _ in range(40)] for _ in range(8)]
    texts = []
    for _ in range(60):
        text = list(rng.choice(base))
        for _ in range(rng.choice([0, 0, 1, 2, 6, 20])):
            text[rng.randrange(40)] = rng.choice(vocabulary)
        texts.append(" ".join(text))
    copies = Copies(ngram=2, threshold=0.7)
    minima = signatures(texts, copies)
    keys = band_keys(minima, bands(copies))
    ids = pa.array(range(len(texts)))
    exact = np.array([text_key("exact", normal(text)) for text in texts], np.uint64)
    found = group(ids, minima, pairs(keyed(ids, exact=exact, near=keys)), threshold=0.7)

    left, right = np.triu_indices(len(texts), 1)
    shared = (keys[left] == keys[right]).any(axis=1) & (estimate(minima[left], minima[right]) >= 0.7)
    shared |= exact[left] == exact[right]
    assert np.unique(keys, return_counts=True)[1].max() <= ALL_PAIRS_UP_TO  # no bucket is a star, so nothing may be missed
    assert found.keeper.tolist() == keepers(len(texts), left[shared], right[shared]).tolist()
    assert (found.keeper < np.arange(len(texts))).any()
