"""The op that embeds, with a stand-in for the model."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.curation import Semantic
from engine.curation import embedder as curation
from engine.dedup import embedder
from engine.dedup.vectors import matrix
from engine.rows import CANDIDATE
from jobs.commands import dedup


class Letters:
    """Embeds a text as the unit vector of how many letters a and b it has."""

    def __init__(self, folder, device):
        self.seen = []

    def __call__(self, texts):
        self.seen += texts
        counts = np.array([[text.count("a") + 1e-3, text.count("b")] for text in texts], np.float32).reshape(-1, 2)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    for module in (embedder, curation):
        monkeypatch.setattr(module, "SentenceEncoder", Letters)


def test_embedder_appends_the_vector_of_each_text_and_takes_null_as_empty():
    rows = pa.table({"id": ["1", "2", "3"], "body": ["aaa", None, "bb"]})
    found = embedder.TextEmbedder(Path("model"), text="body")(rows)
    assert found.column_names == ["id", "body", "embedding"]
    assert matrix(found["embedding"]) == pytest.approx(np.array([[1, 0], [1, 0], [0, 1]]), abs=1e-3)
    assert embedder.TextEmbedder(Path("model"), text="body")(rows.slice(0, 0)).num_rows == 0


def candidates():
    row = dict.fromkeys(CANDIDATE.names) | {
        "answer_id": "x",
        "prompt_id": "p",
        "text": "a" * 900,
        "confidence": 1.0,
        "agreement": 1.0,
    }
    return pa.Table.from_pylist([row | {"answer": 'bb {"n": 1}', "length": 9}, row | {"answer": "b", "length": 1}])


def test_curation_embeds_only_what_the_contract_compares():
    op = curation.CurationEmbedder(Path("model"))
    found = op(candidates().append_column("mean_nll", pa.nulls(2, pa.float32())))
    assert found.schema.equals(curation.EMBEDDED)
    assert found["answer_embedding"].null_count == found["rationale_embedding"].null_count == 2
    assert found["text"].to_pylist() == ["a" * curation.SHOWN] * 2
    assert set(op.model.seen) == {"a" * 900}


def test_curation_embeds_answers_and_rationales_apart_and_none_that_is_missing():
    op = curation.CurationEmbedder(Path("model"), parts=("answer", "rationale"))
    found = op(candidates().append_column("mean_nll", pa.nulls(2, pa.float32())))
    assert op.model.seen[2:] == ["bb", '{"n": 1}', "b"]
    assert found["rationale_embedding"].is_valid().to_pylist() == [True, False]
    assert found["rationale_embedding"][0].as_py() == pytest.approx([0, 1], abs=1e-3)


def test_the_command_has_the_default_model_of_a_contract():
    assert Semantic().model == dedup.MODEL
