"""How the sentence encoder puts texts into batches, with a stand-in for the model."""

import numpy as np
import pytest

from engine.inference import sentence_encoder
from engine.inference.sentence_encoder import SentenceEncoder


class Lengths:
    """Embeds a text as its length."""

    def __init__(self):
        self.batches = []

    def encode(self, texts, **options):
        assert options["batch_size"] == len(texts)
        self.batches.append([len(text) for text in texts])
        return np.array([[len(text)] for text in texts], np.float32)


@pytest.mark.parametrize("chars", [1, 10, 100, 10_000])
def test_batches_hold_the_longest_texts_first_within_the_limit_and_vectors_keep_their_order(monkeypatch, chars):
    monkeypatch.setitem(sentence_encoder.MAX_BATCH_CHARS, "cpu", chars)
    encoder = SentenceEncoder.__new__(SentenceEncoder)  # without weights
    model = encoder.model = Lengths()  # type: ignore[assignment]
    encoder.device, encoder.dimensions, encoder.max_chars = "cpu", 1, 1000
    texts = ["x" * length for length in np.random.default_rng(0).integers(0, 40, 200)]
    assert encoder(texts).ravel().tolist() == [len(text) for text in texts]
    lengths = [length for batch in model.batches for length in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= chars for batch in model.batches)
