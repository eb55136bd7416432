"""Artifacts: invisible until whole, listed to the byte, the same for the same rows."""

import hashlib
import json

import pyarrow as pa
import pytest

from engine.errors import ConservationError, MissingArtifact, StorageError
from engine.records.record import FileEntry, Identity
from engine.rows import VERSION
from engine.storage.artifact import RECORD, ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, rows_digest, table_of, write_shard

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64()), ("seconds", pa.float32())])
ROWS = pa.table({"id": ["a", "b", "c", "d"], "value": [1, 2, 3, 4], "seconds": pa.array([0.1] * 4, pa.float32())})
TOY = Identity("toy", {}, {}, "f" * 32)


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return Folder(f"{tmp_path}/run/toy" if request.param == "local" else f"memory://{tmp_path.name}/toy")


def finish(folder, table=ROWS, *, pieces=1):
    writer = ArtifactWriter(folder)
    writer.clear()
    step = -(-table.num_rows // pieces)
    shards = [write_shard(writer.folder / "rows", table.slice(n * step, step), SCHEMA) for n in range(pieces)]
    writer.tables["rows"] = table_of(shards, hex_digest(rows_digest(table)))
    return writer.finish(TOY, RowCounts(table.num_rows, {"kept": table.num_rows}))


def test_artifact_finished_reads_back_the_rows(folder):
    finish(folder)
    found = load_artifact(folder)
    assert found and found.read("rows", SCHEMA).equals(ROWS)


def test_artifact_record_lists_every_byte_of_its_shards(folder):
    shards = finish(folder, pieces=2).table("rows").shards
    assert sum(shard.rows for shard in shards) == 4
    for shard in shards:
        data = (folder / "rows").read(shard.path)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)


def test_artifact_record_names_versions_and_schema(folder):
    record = finish(folder).record
    assert record.tables["rows"].schema_version == VERSION
    assert {"ray", "torch", "pyarrow"} <= set(record.packages)


def test_artifact_before_finish_is_not_there(folder):
    writer = ArtifactWriter(folder)
    writer.put("rows", ROWS, SCHEMA)
    assert load_artifact(folder) is None


def test_artifact_that_loses_rows_is_not_there(folder):
    writer = ArtifactWriter(folder)
    writer.put("rows", ROWS, SCHEMA)
    with pytest.raises(ConservationError, match="4 rows in, 3 rows out"):
        writer.finish(TOY, RowCounts(4, {"kept": 3}))
    assert load_artifact(folder) is None


def test_artifact_drops_shards_of_a_task_that_was_retried(folder):
    writer = ArtifactWriter(folder)
    writer.put("rows", ROWS, SCHEMA)
    write_shard(writer.folder / "rows", ROWS.slice(0, 1), SCHEMA)
    writer.finish(TOY, RowCounts(4, {"kept": 4}))
    assert [path for path in folder.files() if path.startswith("rows/")] == [f"rows/{s.path}" for s in writer.tables["rows"].shards]


def test_artifact_lists_other_files_with_their_hash(folder):
    writer = ArtifactWriter(folder)
    writer.folder.write("model/config.json", b"{}")
    writer.finish(TOY, RowCounts(0, {}))
    found = load_artifact(folder)
    assert found and found.record.files == (FileEntry("model/config.json", 2, hashlib.sha256(b"{}").hexdigest()),)


def test_fingerprint_of_equal_rows_is_equal_for_any_order_split_and_clock(folder):
    first = finish(folder).fingerprint
    mixed = ROWS.take([2, 0, 3, 1]).set_column(2, "seconds", pa.array([9.0] * 4, pa.float32()))
    assert finish(folder, mixed, pieces=3).fingerprint == first


def test_fingerprint_of_other_rows_differs(folder):
    first = finish(folder).fingerprint
    assert finish(folder, ROWS.set_column(1, "value", pa.array([1, 2, 3, 5]))).fingerprint != first


def test_table_unknown_names_those_that_are_there(folder):
    with pytest.raises(MissingArtifact, match=r"has no table 'rejects'; it has \['rows'\]"):
        finish(folder).table("rejects")


def test_record_that_is_not_json_says_what_to_delete(folder):
    folder.write(RECORD, b'{"half')
    with pytest.raises(StorageError, match=r"record\.json: is not JSON.* Delete .*toy"):
        load_artifact(folder)


def test_record_is_the_last_file_that_a_store_without_rename_shows():
    folder = Folder("memory://order/toy")
    finish(folder)
    made = {path: folder.fs.info(f"{folder.path}/{path}")["created"] for path in folder.files()}
    assert max(made, key=made.__getitem__) == RECORD
    assert json.loads(folder.read(RECORD))["job"] == "toy"


def test_record_of_the_first_version_is_read_with_the_names_of_today(folder):
    finish(folder)
    record = json.loads(folder.read(RECORD))
    record["tally"] = {"rows_in": 9, "rows_out": {"train": 2, "elsewhere": 4, "spared": 2, "unpaid": 1}}
    record["facts"] = {"tiers": {"0": 2}, "teachers": {"t": {"unpaid": 1}}}
    folder.write(
        RECORD, json.dumps({key: record[key] for key in record if key not in ("version", "row_counts", "metrics")}).encode()
    )
    older = load_artifact(folder)
    assert older and older.record.version == 1
    assert older.record.row_counts == RowCounts(9, {"train": 2, "not_routed": 4, "early_stopped": 2, "budget_exhausted": 1})
    assert older.record.metrics == {"confidence_tiers": {"0": 2}, "teachers": {"t": {"budget_exhausted": 1}}}
