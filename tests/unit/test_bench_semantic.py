"""The texts of `bench semantic`, and its result for embeddings in which duplicates are near."""

import numpy as np
import pytest

from jobs.bench.semantic import KINDS, SemanticBench, Speed, as_text, corpus, find_planted, rest_seconds


@pytest.fixture(scope="module")
def texts():
    return corpus(400)


def embedded(given, *, noise):
    rng = np.random.default_rng(0)
    found = rng.normal(size=(len(given.texts), 32))[given.original] + noise * rng.normal(size=(len(given.texts), 32))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_corpus_is_the_same_each_time_and_a_longer_one_begins_with_it(texts):
    assert corpus(400) == texts
    assert corpus(500).texts[:400] == texts.texts
    assert len(set(texts.texts)) == 400


def test_a_third_are_copies_of_the_text_before_them_by_each_kind(texts):
    copies = [number for number, kind in enumerate(texts.kind) if kind]
    assert len(copies) == 133 and {kind: texts.kind.count(kind) for kind in KINDS} == {"typos": 45, "order": 44, "paraphrase": 44}
    for number in copies:
        mine, other = texts.texts[number], texts.texts[number - 1]
        assert texts.original[number] == number - 1 and mine != other
        assert texts.kind[number] != "order" or sorted(mine.split()) == sorted(other.split())


def test_copies_count_as_found_only_if_the_model_puts_them_near(texts):
    found = find_planted(texts, embedded(texts, noise=0.05))
    assert found.thresholds["0.9"]["all"].model_dump() == {"planted": 133, "near": 133, "found": 133, "recall": 1.0}
    assert found.strangers == {"0.9": 0, "0.95": 0}
    far = find_planted(texts, embedded(texts, noise=3.0)).thresholds["0.95"]["typos"].model_dump()
    assert far == {"planted": 45, "near": 0, "found": 0, "recall": None}


def test_text_shows_speed_and_recall(texts):
    vectors = embedded(texts, noise=0.05)
    speed = Speed(texts_per_second=100.0, rounds=(100.0,))
    rest = rest_seconds(vectors)
    result = SemanticBench(
        texts=400, model="m", threads=1, bare=speed, embed=speed, ratio=1.0, agreement=1.0, rest=rest, share=rest,
        **find_planted(texts, vectors).model_dump(),
    )  # fmt: skip
    text = as_text(result)
    assert "400 texts, embed by bare 1.000" in text
    assert ["0.9", "paraphrase", "44", "44", "44", "1.0"] in [line.split() for line in text.splitlines()]
