"""The ledger of paid work: what was recorded is found, once, and only by its own key."""

import pyarrow as pa
import pytest

from engine.lineage.ledger import ROWS_PER_BUCKET, Ledger
from engine.rows import content_id
from engine.shards import Folder

SCHEMA = pa.schema([("answer_id", pa.string()), ("prompt_id", pa.string()), ("text", pa.string())])


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return Folder(f"{tmp_path}/answers" if request.param == "local" else f"memory://{tmp_path.name}/answers")


def ledger(folder, expected_rows=10):
    return Ledger(folder, SCHEMA, key="answer_id", bucket_by="prompt_id", expected_rows=expected_rows)


def rows(numbers):
    prompts = [content_id(n) for n in numbers]
    ids = [content_id("answer", n) for n in numbers]
    return pa.table({"answer_id": ids, "prompt_id": prompts, "text": [f"text {n}" for n in numbers]}, SCHEMA)


def texts(table):
    return sorted(table["text"].to_pylist())


def find(book, wanted):
    return book.find(wanted["answer_id"].to_pylist(), wanted["prompt_id"].to_pylist())


def test_ledger_that_is_new_finds_nothing(folder):
    assert find(ledger(folder), rows([1, 2])).num_rows == 0


def test_ledger_finds_what_another_process_recorded_and_nothing_else(folder):
    ledger(folder).record(rows([1, 2, 3]))
    assert texts(find(ledger(folder), rows([2, 3, 4]))) == ["text 2", "text 3"]


def test_ledger_row_recorded_twice_is_found_once(folder):
    ledger(folder).record(rows([1, 2]))
    ledger(folder).record(rows([2, 3]))  # the batch in flight at a crash, cut otherwise
    assert texts(find(ledger(folder), rows([1, 2, 3]))) == ["text 1", "text 2", "text 3"]


def test_ledger_equal_batch_recorded_twice_is_stored_once(folder):
    ledger(folder).record(rows([1, 2]))
    ledger(folder).record(rows([1, 2]))
    assert len(folder.files()) == 1


def test_ledger_expecting_many_rows_reads_only_the_buckets_asked_for(folder):
    expected = 16 * ROWS_PER_BUCKET
    ledger(folder, expected).record(rows(range(64)))
    buckets = {path.partition("/")[0] for path in folder.files()}
    assert len(buckets) > 8 and all(len(bucket) == 1 for bucket in buckets)
    one = rows([5])
    kept = one["prompt_id"][0].as_py()[0]
    for bucket in buckets - {kept}:
        folder.remove(bucket)
    assert texts(find(ledger(folder, expected), one)) == ["text 5"]


def test_ledger_in_use_finds_other_buckets_after_the_first(folder):
    expected = 16 * ROWS_PER_BUCKET
    ledger(folder, expected).record(rows(range(64)))
    book = ledger(folder, expected)
    found = [texts(find(book, rows([number])))[0] for number in range(64)]
    assert found == [f"text {number}" for number in range(64)]
