"""An index returns the signatures as they were stored; only complete batches of the same recipe count."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.dedup.index import RECORD, VERSIONS, open_index, part
from engine.dedup.signature import SignedBlock
from engine.errors import RecipeMismatch, StorageError
from engine.records.dedup import IndexRecipe
from engine.storage.folder import Folder

COLUMNS = {"id": "string", "score": "double"}
RECIPE = IndexRecipe(version=VERSIONS["uint32"], matcher={"threshold": 0.7}, keep=("score",), columns=COLUMNS)


def signed(width):
    rows = pa.table({"id": ["a", "b"], "batch": [0, 0], "listed": [True, True], "score": [1.0, 2.0]})
    return SignedBlock(rows, np.array([2**63, 5], np.uint64), np.arange(2 * width, dtype=np.uint32).reshape(2, width))


@pytest.mark.parametrize("width", [0, 4])
def test_a_batch_comes_back_as_it_was_stored(tmp_path, width):
    index = open_index(Folder(str(tmp_path)), RECIPE)
    given = signed(width)
    index.next.write("part-00000.parquet", part(given, np.array([1])))
    assert open_index(Folder(str(tmp_path)), RECIPE).parts() == []  # no record yet
    index.add(["part-00000.parquet"], 2)
    again = open_index(Folder(str(tmp_path)), RECIPE)
    (stored,) = again.parts()
    found = stored.signed()
    assert again.rows == 2 and again.next.url.endswith("batch-00001")
    assert found.text_keys.tolist() == given.text_keys.tolist() and found.signatures.tolist() == given.signatures.tolist()
    assert found.rows.select(["id", "batch", "listed", "score"]).to_pylist() == [
        {"id": "a", "batch": 0, "listed": True, "score": 1.0},
        {"id": "b", "batch": 0, "listed": False, "score": 2.0},
    ]


def test_another_recipe_and_a_damaged_record_are_refused(tmp_path):
    open_index(Folder(str(tmp_path)), RECIPE).add([], 0)
    with pytest.raises(RecipeMismatch, match=r"matcher \{'threshold': 0\.7\}, expected \{'threshold': 0\.8\}"):
        open_index(Folder(str(tmp_path)), RECIPE.model_copy(update={"matcher": {"threshold": 0.8}}))
    (tmp_path / "batch-00000" / RECORD).write_text("{")
    with pytest.raises(StorageError, match="is no record of a batch"):
        open_index(Folder(str(tmp_path)), RECIPE)


def test_an_index_of_minhash_by_an_earlier_build_is_read(tmp_path):
    folder, expected = tmp_path / "batch-00000", signed(4)
    folder.mkdir()
    table = pq.read_table(io.BytesIO(part(expected, np.array([], np.int64))))
    pq.write_table(
        table.rename_columns([{"signature": "minima"}.get(name, name) for name in table.column_names]), folder / "part-0"
    )
    recipe = {"version": 2, "alike": {"threshold": 0.7}, "keep": ["score"], "columns": {"id": "string", "score": "double"}}
    (folder / RECORD).write_text(json.dumps({"recipe": recipe, "rows": 2, "parts": ["part-0"]}))
    (stored,) = open_index(Folder(str(tmp_path)), RECIPE).parts()
    assert stored.signed().signatures.tolist() == expected.signatures.tolist()
    assert stored.signed().rows.column_names == ["id", "batch", "listed", "score"]


def test_an_index_of_embeddings_by_an_earlier_build_is_refused_by_its_version(tmp_path):
    matcher = {"model": "m", "threshold": 0.9}
    recipe = IndexRecipe(version=VERSIONS["float32"], matcher=matcher, keep=(), columns={"id": "string"})
    open_index(Folder(str(tmp_path)), recipe.model_copy(update={"version": 2}), kind="float32").add([], 0)
    with pytest.raises(RecipeMismatch, match=r"made with version 2, expected 3.*a new folder"):
        open_index(Folder(str(tmp_path)), recipe, kind="float32")
