"""Files are cut into blocks that read the same rows, whatever the files; what cannot be used is named."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.dedup import corpus
from engine.dedup.corpus import open_corpus, read, read_all
from engine.dedup.job import Columns, open_job, run
from engine.distributed.thread_pool import ThreadPool
from engine.errors import InputError
from engine.storage.folder import Folder

ROWS = [{"id": n, "text": f"text number {n}"} for n in range(50)]


def put_parquet(path, rows, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


def put_lines(path, rows, opener=open):
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def texts(found, **more):
    return [row for block in found.blocks for row in read(block, found.schema, ["id", "text"], **more).to_pylist()]


@pytest.mark.parametrize("rows", [7, 1000])
def test_blocks_of_parquet_hold_every_row_once_in_order(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(corpus, "BLOCK_ROWS", rows)
    put_parquet(tmp_path / "a" / "0.parquet", ROWS[:20], row_group_size=3)
    put_parquet(tmp_path / "b.parquet", ROWS[20:], row_group_size=7)
    (tmp_path / "_SUCCESS").write_text("")
    found = open_corpus(str(tmp_path), {})
    assert texts(found) == ROWS and found.rows == 50
    assert (len(found.blocks) > 5) == (rows == 7)


@pytest.mark.parametrize("size", [64, 1 << 20])
def test_lines_are_cut_between_rows_and_called_by_file_and_row(tmp_path, monkeypatch, size):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", size)
    put_lines(tmp_path / "x.jsonl", ROWS)
    found = open_corpus(str(tmp_path / "*.jsonl"), {})
    rows = texts(found, row_id="name")
    assert [row.pop("name") for row in rows] == [f"x.jsonl:{n}" for n in range(50)]
    assert rows == ROWS and (len(found.blocks) > 5) == (size == 64)


def test_packed_lines_are_one_block(tmp_path):
    put_lines(tmp_path / "x.jsonl.gz", ROWS, opener=gzip.open)
    assert texts(open_corpus(str(tmp_path / "x.jsonl.gz"), {})) == ROWS


def test_a_file_behind_a_url_is_read(tmp_path):
    put_parquet(tmp_path / "0.parquet", ROWS)
    assert texts(open_corpus(f"file://{tmp_path}", {})) == ROWS


def test_one_line_of_ten_megabytes_is_a_row(tmp_path):
    long = [{"id": 0, "text": "word " * 2_000_000}]
    put_lines(tmp_path / "x.jsonl", [*long, *ROWS])
    assert [row["id"] for row in texts(open_corpus(str(tmp_path), {}))] == [0, *range(50)]


def test_what_cannot_be_used_is_named(tmp_path):
    with pytest.raises(InputError, match="found an empty folder"):
        open_corpus(str(tmp_path), {})
    put_parquet(tmp_path / "0.parquet", ROWS)
    with pytest.raises(InputError, match=r"found columns \['id', 'text'\], expected 'body'.*--text-column"):
        open_corpus(str(tmp_path), {"--text-column": "body"})
    put_parquet(tmp_path / "1.parquet", [{"id": "a", "text": "x"}])
    with pytest.raises(InputError, match=r"1\.parquet: found column 'id' as string, expected int64 as in .*0\.parquet"):
        open_corpus(str(tmp_path), {})
    (tmp_path / "1.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"1\.parquet: cannot be read"):
        open_corpus(str(tmp_path), {})
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(InputError, match="found no rows in 1 files"):
        open_corpus(str(tmp_path / "none.jsonl"), {})


def test_a_line_that_is_no_json_is_left_out_and_counted(tmp_path):
    put_lines(tmp_path / "x.jsonl", ROWS)
    found = open_corpus(str(tmp_path), {})
    (tmp_path / "x.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": broken\n\n{"id": 2, "text": "b"}\n')
    table, rejects = read_all(found.blocks[0], found.schema, ["id"], row_id="name")
    assert table.to_pylist() == [{"id": 1, "name": "x.jsonl:0"}, {"id": 2, "name": "x.jsonl:2"}]
    assert [(row["source"], row["line"], row["reason"]) for row in rejects.to_pylist()] == [("x.jsonl", 2, "unreadable")]


def test_a_damaged_page_of_a_column_that_is_not_compared_moves_no_row(tmp_path):
    rows = [{"id": number, "text": f"text {number} of a kind", "meta": os.urandom(30).hex()} for number in range(40)]
    rows[25]["text"] = rows[30]["text"]
    put_parquet(tmp_path / "in" / "0.parquet", rows, row_group_size=20, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(tmp_path / "in" / "0.parquet").row_group(0).column(2)
    data = bytearray((tmp_path / "in" / "0.parquet").read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    (tmp_path / "in" / "0.parquet").write_bytes(bytes(data))
    job = open_job(str(tmp_path / "in"), Columns(damaged="keep"), None)
    with ThreadPool(1) as pool:
        counts, _ = run(job, Folder(str(tmp_path / "out")), Folder(str(tmp_path / "side")), pool, pool)
    assert (counts.rows, counts.kept, counts.rejected) == (21, 19, {"unreadable": 1})
    kept = pq.read_table(tmp_path / "out")["id"].to_pylist()
    assert kept == [*range(20, 30), *range(31, 40)]
