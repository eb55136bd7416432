"""What an index holds comes back as it was signed; only whole batches of the same recipe count."""

import numpy as np
import pyarrow as pa
import pytest

from engine.dedup.index import RECORD, open_index, part
from engine.dedup.signature import Signed
from engine.errors import RecipeMismatch, StorageError
from engine.storage.shards import Folder

RECIPE = {"threshold": 0.7, "keep": ("score",)}


def signed(width):
    rows = pa.table({"id": ["a", "b"], "batch": [0, 0], "listed": [True, True], "score": [1.0, 2.0]})
    return Signed(rows, np.array([2**63, 5], np.uint64), np.arange(2 * width, dtype=np.uint32).reshape(2, width))


@pytest.mark.parametrize("width", [0, 4])
def test_a_batch_comes_back_as_it_was_signed(tmp_path, width):
    index = open_index(Folder(str(tmp_path)), RECIPE)
    given = signed(width)
    index.next.write("part-00000.parquet", part(given, np.array([1])))
    assert open_index(Folder(str(tmp_path)), RECIPE).parts() == []  # no record yet
    index.add(["part-00000.parquet"], 2)
    again = open_index(Folder(str(tmp_path)), RECIPE)
    (stored,) = again.parts()
    found = stored.sign()
    assert again.rows == 2 and again.next.url.endswith("batch-00001")
    assert found.text.tolist() == given.text.tolist() and found.minima.tolist() == given.minima.tolist()
    assert found.rows.select(["id", "batch", "listed", "score"]).to_pylist() == [
        {"id": "a", "batch": 0, "listed": True, "score": 1.0},
        {"id": "b", "batch": 0, "listed": False, "score": 2.0},
    ]


def test_another_recipe_and_a_damaged_record_are_refused(tmp_path):
    open_index(Folder(str(tmp_path)), RECIPE).add([], 0)
    with pytest.raises(RecipeMismatch, match=r"threshold 0\.7, found 0\.8"):
        open_index(Folder(str(tmp_path)), RECIPE | {"threshold": 0.8})
    (tmp_path / "batch-00000" / RECORD).write_text("{")
    with pytest.raises(StorageError, match="is not JSON"):
        open_index(Folder(str(tmp_path)), RECIPE)
