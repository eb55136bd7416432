"""Artifacts: invisible until whole, listed to the byte, the same for the same rows."""

import errno
import hashlib
import json
import os

import pyarrow as pa
import pytest

from engine.errors import ConservationError, MissingArtifact, StorageError
from engine.records.record import FileEntry, Identity
from engine.rows import VERSION
from engine.runs import swap
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


@pytest.mark.parametrize("of", ["record", "tables"])
def test_artifact_of_a_newer_version_is_refused_and_not_read_as_if_it_were_of_today(folder, of):
    finish(folder)
    record = json.loads(folder.read(RECORD))
    if of == "record":
        record = {"version": 99, "steps": record["row_counts"]}  # whatever its keys are then
    else:
        record["tables"]["rows"]["schema_version"] = 99
    folder.write(RECORD, json.dumps(record).encode())
    with pytest.raises(StorageError, match=r"record\.json: found (tables of )?version 99, expected at most \d+: a newer version"):
        load_artifact(folder)


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


def synced(monkeypatch):
    """Return a list that grows by what is written to the disk, and by renames, in order."""
    steps = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(descriptor):
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def record_rename(source, target, **options):
        steps.append((source, target))
        rename(source, target, **options)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    return steps


def test_everything_that_the_record_lists_is_on_the_disk_before_the_record(tmp_path, monkeypatch):
    writer = ArtifactWriter(Folder(f"{tmp_path}/run/students/toy"))
    writer.put("rows", ROWS, SCHEMA)
    writer.folder.write("model/deep/weights.bin", b"1")
    steps = synced(monkeypatch)
    artifact = writer.finish(TOY, RowCounts(4, {"kept": 4}))
    building = writer.folder.path
    [shard] = artifact.table("rows").shards
    record = next(step[0] for step in steps if isinstance(step, tuple) and step[1].endswith(RECORD))
    before = steps[: steps.index(record)]
    files = [f"{building}/rows/{shard.path}", f"{building}/model/deep/weights.bin", f"{building}/README.md"]
    assert {step for step in before if isinstance(step, str)} == {
        *files,
        *(f"{building}{name}" for name in ("", "/rows", "/model", "/model/deep")),
    }
    renamed = steps.index((building, artifact.folder.path))
    assert steps[steps.index(record) : renamed] == [record, (record, f"{building}/{RECORD}"), building]
    assert steps[renamed + 1 :] == [f"{tmp_path}/run/students", f"{tmp_path}/run", str(tmp_path)]


def test_copied_artifact_is_on_the_disk_before_its_record(tmp_path, monkeypatch):
    artifact = finish(Folder(f"{tmp_path}/run/toy"), pieces=2)
    steps = synced(monkeypatch)
    swap.copy(artifact, Folder(f"{tmp_path}/copy"))
    record = next(index for index, step in enumerate(steps) if isinstance(step, tuple) and step[1].endswith(RECORD))
    assert {f"{tmp_path}/copy/rows/{shard.path}" for shard in artifact.table("rows").shards} < {*steps[:record]}


def test_disk_that_reports_an_error_leaves_no_artifact(tmp_path, monkeypatch):
    writer = ArtifactWriter(Folder(f"{tmp_path}/toy"))
    writer.put("rows", ROWS, SCHEMA)

    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageError, match=r"cannot be written to the disk: .*Input/output error"):
        writer.finish(TOY, RowCounts(4, {"kept": 4}))
    assert load_artifact(writer.final) is None and load_artifact(writer.folder) is None


def test_file_system_that_cannot_sync_a_folder_is_used_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    assert finish(Folder(f"{tmp_path}/toy")).read("rows", SCHEMA).equals(ROWS)
