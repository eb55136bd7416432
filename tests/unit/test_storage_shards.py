"""Folders and shards: on a disk, in memory, and on an S3 stand-in; whole or not at all."""

import pickle
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import StorageError
from engine.records.record import Shard
from engine.rows import ANSWER, CANDIDATE, EXAMPLE, PICKED, PREDICTION, PROMPT, VERSION, conform
from engine.storage import migrations
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, iterate, read_shard, read_table, rows_digest, write_shard, write_table

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64())])
ROWS = pa.table({"id": list("abcde"), "value": [1, 2, 3, 4, 5]}, SCHEMA)


def test_folder_written_file_is_read_listed_and_removed(folder):
    folder.write("a/b.txt", b"hello")
    (folder / "a").write("c.txt", b"there")
    assert folder.read("a/b.txt") == b"hello"
    assert folder.files() == ["a/b.txt", "a/c.txt"]
    assert folder.exists("a/b.txt") and not folder.exists("a/x.txt")
    folder.remove("a")
    assert folder.files() == []


def test_folder_creates_a_file_once_and_never_replaces_it(folder):
    assert folder.create("log/1.json", b"first") is True
    assert folder.create("log/1.json", b"other") is False
    assert folder.create("log/2.json", b"second") is True
    assert (folder.read("log/1.json"), folder.files()) == (b"first", ["log/1.json", "log/2.json"])


def test_folder_written_twice_holds_the_second(folder):
    folder.write("a.txt", b"first, and longer")
    folder.write("a.txt", b"second")
    assert folder.read("a.txt") == b"second"
    assert folder.files() == ["a.txt"]


def test_folder_pickled_opens_again(folder):
    folder.write("a.txt", b"hello")
    assert pickle.loads(pickle.dumps(folder)).read("a.txt") == b"hello"


def test_folder_missing_file_says_where(folder):
    with pytest.raises(StorageError, match=r"run/nothing\.txt: cannot be read"):
        folder.read("nothing.txt")


def test_folder_renamed_is_found_at_its_new_name_only(folder):
    (folder / "half").write("a/b.txt", b"hello")
    (folder / "half").rename_to(folder / "whole")
    assert folder.files() == ["whole/a/b.txt"]


def test_table_reads_back_from_several_shards(folder):
    table = write_table(folder, ROWS, SCHEMA, shard_rows=2)
    assert sorted(shard.rows for shard in table.shards) == [1, 2, 2]
    assert table.rows == 5
    found = read_table(folder, table, SCHEMA)
    assert found.sort_by("id").equals(ROWS)


def test_table_reads_only_the_columns_asked_for(folder):
    table = write_table(folder, ROWS, SCHEMA)
    assert read_table(folder, table, SCHEMA, ["value"]).column_names == ["value"]


def test_table_empty_keeps_its_columns(folder):
    table = write_table(folder, SCHEMA.empty_table(), SCHEMA)
    assert table.rows == 0
    assert read_shard(folder, table.shards[0]).schema.names == SCHEMA.names
    assert read_table(folder, table, SCHEMA).equals(SCHEMA.empty_table())


def test_shard_written_twice_is_one_file(folder):
    assert write_shard(folder, ROWS, SCHEMA) == write_shard(folder, ROWS, SCHEMA)
    assert len(folder.files()) == 1


def test_shard_of_another_schema_is_refused(folder):
    with pytest.raises(KeyError, match=r"columns \['value'\] are not in the table"):
        write_shard(folder, ROWS.select(["id"]), SCHEMA)


def test_shard_damaged_says_which_and_what_to_do(folder):
    shard = write_shard(folder, ROWS, SCHEMA)
    folder.write(shard.path, folder.read(shard.path)[:-20])
    with pytest.raises(StorageError, match=rf"{shard.path}: damaged or missing: .*Delete the artifact and run again"):
        read_shard(folder, shard)


def test_shard_missing_says_which_and_what_to_do(folder):
    with pytest.raises(StorageError, match=r"part-0\.parquet: damaged or missing"):
        read_shard(folder, Shard("part-0.parquet", 1, 1, ""))


def test_older_schema_version_is_migrated_step_by_step(tmp_path, monkeypatch):
    old = pa.schema([("id", pa.string()), ("amount", pa.int64())])
    folder = Folder(str(tmp_path))
    table = replace(write_table(folder, ROWS.rename_columns(["id", "amount"]), old), schema_version=VERSION - 1)
    monkeypatch.setitem(migrations.MIGRATIONS, VERSION - 1, lambda rows: rows.rename_columns(["id", "value"]))
    assert next(iterate(folder, table)).equals(ROWS)


def test_digest_is_equal_for_any_order_and_split():
    mixed = ROWS.take([3, 1, 4, 0, 2])
    whole = hex_digest(rows_digest(ROWS))
    assert hex_digest(rows_digest(mixed.slice(0, 2)) + rows_digest(mixed.slice(2))) == whole
    assert hex_digest(rows_digest(ROWS.slice(1))) != whole


def test_answers_of_an_earlier_version_are_read_with_the_columns_they_lack(folder):
    old = pa.table({"answer_id": ["1"], "teacher": ["t"], "answer": ["x"]})
    table = replace(write_table(folder, old, old.schema), schema_version=1)
    [found] = iterate(folder, table, ["answer", "route", "reasoning"])
    assert found.to_pylist() == [{"answer": "x", "route": "", "reasoning": ""}]


@pytest.mark.parametrize("schema", [PROMPT, ANSWER, CANDIDATE, PICKED, EXAMPLE, PREDICTION])
def test_rows_of_the_version_before_have_every_column_of_today(folder, schema):
    new = {
        "dimension_scores", "rubric_spread", "judge_decides", "relation", "confidence_tier", "parents", "complexity",
        "quality", "ifd", "density", "kind",
    } | ({"checks"} if schema is PREDICTION else {"reference"})  # fmt: skip
    old = pa.schema([field for field in schema if field.name not in new])
    row = {field.name: None for field in old} | {"confidence": 0.5}
    written = pa.Table.from_pylist([{name: row[name] for name in old.names}], schema=old)
    table = replace(write_table(folder, written, old), schema_version=2)
    [found] = iterate(folder, table)
    today = conform(found, schema).to_pylist()[0]
    assert {name: today[name] for name in new & set(today)} == {
        name: {"dimension_scores": [], "judge_decides": True, "relation": "", "parents": [], "kind": "answer", "checks": []}.get(
            name
        )
        for name in new & set(today)
    }


def test_digest_counts_a_row_that_stands_twice():
    assert rows_digest(pa.concat_tables([ROWS, ROWS])) != rows_digest(ROWS)


def test_write_to_a_place_that_refuses_says_what_to_do():
    with pytest.raises(StorageError, match=r"/proc/nowhere/a\.txt: cannot be written: .*choose a run folder that can be written"):
        Folder("/proc/nowhere").write("a.txt", b"hello")


FILL = """
import resource, signal, sys
from engine.errors import StorageError
from engine.storage.folder import Folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the kernel refuses the bytes behind, as a full disk does
try:
    Folder(sys.argv[1]).write("big.bin", bytes(100_000))
except StorageError as error:
    print(error)
"""


def test_write_that_does_not_fit_leaves_no_file_of_any_name(tmp_path):
    done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "big.bin: cannot be written" in done.stdout and "Make room" in done.stdout
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from engine.storage.folder import Folder
os.rename = lambda *given, **named: os._exit(9)  # the power fails between the bytes and the name
Folder(sys.argv[1]).write("whole.bin", b"new and longer than before")
"""


def test_write_that_is_killed_leaves_the_old_file_whole(tmp_path):
    folder = Folder(str(tmp_path))
    folder.write("whole.bin", b"old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)]).returncode == 9
    assert folder.read("whole.bin") == b"old"


def test_metadata_of_a_schema_stay_beside_what_is_declared(tmp_path):
    """A ledger keeps the version of its rows there: without it they would be migrated from the first version on."""
    schema = EXAMPLE.with_metadata({b"rayleigh.schema_version": b"7"})
    shard = write_shard(Folder(str(tmp_path)), schema.empty_table(), schema)
    assert pq.read_schema(tmp_path / shard.path).metadata == {b"rayleigh.schema_version": b"7"}
    assert read_shard(Folder(str(tmp_path)), shard).schema.metadata == {b"rayleigh.schema_version": b"7"}
    assert b"rayleigh.columns" in pq.ParquetFile(tmp_path / shard.path).metadata.metadata
