"""Data files: which ones a path names, and that every form of the same rows gives the same prompts."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import struct
from contextlib import chdir
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.prompts import Holdout, Source
from engine.dedup.corpus import open_corpus, read_all
from engine.dedup.lines import SchemaDrift
from engine.dedup.signature import Documents, IdsMissing, ReadOptions
from engine.errors import InputError
from engine.prompts import files
from engine.prompts.references import as_text
from engine.prompts.sources import prompts
from engine.readers import formats
from engine.readers.columns import is_no_id
from engine.readers.paths import data_files, format_of
from engine.readers.schemas import joined_type

PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".lz4": lambda data: pa.compress(data, "lz4", asbytes=True),
}


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def put_parquet(path, rows, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


def table(rows, delimiter=","):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def names(path, root):
    return [file.name for file in data_files(path, root=str(root))]


def ingested(path, root, *, schema=None, **options):
    """Return the rows of one source as dicts."""
    source = Source(path=str(path), licence="x", **({"columns": {"text": "text"}} | options))
    found = files.source_files([("train", "unit", source)], root=str(root))
    found = files.with_counts(files.with_schemas(found, {"unit": schema}), {file.number: file.count() for file in found})
    return [row for file in found for part in prompts(file, max_chars=10_000) for row in part.to_pylist()]


def test_link_has_the_ending_of_its_own_name(tmp_path):
    blob = put(tmp_path / "blobs" / "9b1d", lines([{"text": "a"}]))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").symlink_to(blob)
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "inner").symlink_to(tmp_path / "data")
    for path in ("data/train.jsonl", "data", "data/*.jsonl", "*/train.jsonl", "linked", "all"):
        assert {row["text"] for row in ingested(path, tmp_path)} == {"a"}, path


def test_brackets_are_a_pattern_only_where_the_contract_writes_one_and_no_such_path_exists(tmp_path):
    root = tmp_path / "proj [v2]"
    put(root / "train.jsonl", lines([{"text": "a"}]))
    put(root / "set [1]" / "x1.jsonl", lines([{"text": "b"}]))
    put(root / "set [1]" / "x2.jsonl", lines([{"text": "c"}]))
    put(root / "part[12].jsonl", lines([{"text": "d"}]))
    assert names("train.jsonl", root) == ["train.jsonl"]
    assert names("*.jsonl", root) == ["./part[12].jsonl", "./train.jsonl"]
    assert names("part[12].jsonl", root) == ["part[12].jsonl"]
    assert names("set [1]", root) == ["set [1]/x1.jsonl", "set [1]/x2.jsonl"]
    assert names("set [1]/x[12].jsonl", root) == ["set [1]/x1.jsonl", "set [1]/x2.jsonl"]
    assert names(str(root / "set [1]" / "*2.jsonl"), tmp_path) == [str(root / "set [1]" / "x2.jsonl")]
    assert len(open_corpus(str(root / "set [1]"), {}).blocks) == 1
    with pytest.raises(InputError, match="found no file"):
        names("set [1]/gone.jsonl", root)


def test_hidden_names_are_no_data_unless_they_are_given(tmp_path):
    for name in ("a.jsonl", "._a.jsonl", ".ipynb_checkpoints/a-checkpoint.jsonl", "_side/b.jsonl", "_x.jsonl", "sub/c.jsonl"):
        put(tmp_path / "in" / name, lines([{"text": name}]))
    put(tmp_path / "in" / "info.json", "{}")
    assert names("in", tmp_path) == ["in/a.jsonl", "in/sub/c.jsonl"]
    assert names("in/*", tmp_path) == ["in/a.jsonl", "in/sub/c.jsonl"]
    assert names("in/**/*.jsonl", tmp_path) == ["in/a.jsonl", "in/sub/c.jsonl"]
    assert names("in/*.jsonl", tmp_path) == ["in/a.jsonl"]
    assert names("in/_*.jsonl", tmp_path) == ["in/_x.jsonl"] and names("in/_x.jsonl", tmp_path) == ["in/_x.jsonl"]
    assert names("in/_side/*.jsonl", tmp_path) == ["in/_side/b.jsonl"] and names("in/_side", tmp_path) == ["in/_side/b.jsonl"]
    with pytest.raises(InputError, match=r"found no data file, but info\.json"):
        names("only", put(tmp_path / "x" / "only" / "info.json", "{}").parents[1])


@pytest.mark.parametrize("ending", PACK)
def test_every_accepted_ending_is_unpacked_and_a_cut_file_names_its_last_line(tmp_path, ending):
    rows = [{"text": os.urandom(1000).hex()} for _ in range(700)]
    packed = PACK[ending](lines(rows))
    put(tmp_path / f"whole.jsonl{ending}", packed)
    put(tmp_path / f"cut.jsonl{ending}", packed[: len(packed) * 3 // 4])
    assert [row["text"] for row in ingested(f"whole.jsonl{ending}", tmp_path)] == [row["text"] for row in rows]
    assert open_corpus(str(tmp_path / f"whole.jsonl{ending}"), {"--text-column": "text"}).blocks
    with pytest.raises(InputError, match=rf"cut\.jsonl\{ending}: cannot be read after line \d+: .*damaged: keep"):
        ingested(f"cut.jsonl{ending}", tmp_path)
    *good, last = ingested(f"cut.jsonl{ending}", tmp_path, damaged="keep")
    assert [row["text"] for row in good] == [row["text"] for row in rows[: len(good)]] and 0 < len(good) < 700
    assert (last["reason"], last["line"]) == ("unreadable", len(good) + 1) and "damaged" in last["detail"]
    found = open_corpus(str(tmp_path / f"cut.jsonl{ending}"), {}, damaged="keep")
    kept, rejects = read_all(found.blocks[0], found.schema, ["text"])
    assert 0 < len(kept) < 1500 and rejects["reason"].to_pylist() == ["unreadable"]


def test_damaged_page_of_parquet_costs_its_row_group_if_asked(tmp_path):
    rows = [{"text": os.urandom(40).hex()} for _ in range(900)]
    put_parquet(tmp_path / "x.parquet", rows, row_group_size=300, write_page_checksum=True, use_dictionary=False)
    group = pq.read_metadata(tmp_path / "x.parquet").row_group(1).column(0)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[group.data_page_offset + group.total_compressed_size // 2] ^= 0xFF
    put(tmp_path / "x.parquet", bytes(data))
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read after line 300: rows 301 to 600"):
        ingested("x.parquet", tmp_path)
    kept = ingested("x.parquet", tmp_path, damaged="keep")
    assert [row["line"] for row in kept if row["reason"]] == [301] and len(kept) == 601
    found = open_corpus(str(tmp_path / "x.parquet"), {}, damaged="keep")
    assert sum(len(read_all(block, found.schema, ["text"])[0]) for block in found.blocks) in (600, 900)  # no checksum there


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", gzip.compress(b"{}", mtime=0), "its ending says jsonl, it holds gzip data"),
        ("x.csv", b"PK\x03\x04xlsx", "an Excel workbook"),
        ("x.jsonl", "text".encode("utf-16"), "UTF-16"),
        ("x.parquet.gz", b"x", "Parquet is compressed inside"),
        ("x.json", b'{\n "data": []\n}', "one JSON object over several lines"),
        ("x.jsonl.zip", b"x", "unknown ending"),
        ("x.json", b'[\n{"text": "a"}]\n[{"text": "b"}]', "after the end of the array"),
    ],
)
def test_what_a_file_is_not_is_said(tmp_path, name, content, message):
    put(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        ingested(name, tmp_path)


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_one_json_array_is_read_in_any_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("engine.readers.json_rows.CHUNK", chunk)
    rows = [{"text": f'a "quoted" ]}}, [{n}', "n": [n, {"x": None}]} for n in range(5)]
    for name, content in {"a.json": json.dumps(rows), "b.json": json.dumps(rows, indent=2), "c.jsonl": json.dumps(rows)}.items():
        assert [(row.line, row.fields) for row in formats.read(str(put(tmp_path / name, content)))] == list(enumerate(rows, 1))
    mixed = list(formats.read(str(put(tmp_path / "d.json", b'[{"a": 1}, 7, {"a": "\xff"}]'))))
    assert [row.reason for row in mixed] == ["", "unreadable", "encoding"]


def test_quote_that_never_closes_costs_its_first_line(tmp_path):
    good = [f"{n},row {n}" for n in range(60)]
    content = "\n".join(["id,text", *good[:5], '99,"never closed', *good[5:30], '98,"in, quotes"', '97,"two\nlines"', *good[30:]])
    rows = ingested(put(tmp_path / "x.csv", content), tmp_path)
    bad = [row for row in rows if row["reason"]]
    assert [(row["line"], row["reason"], row["raw"]) for row in bad] == [(7, "unreadable", '99,"never closed')]
    assert "the record took 27 lines" in bad[0]["detail"]
    texts = [row["text"] for row in rows if not row["reason"]]
    assert texts == [*(f"row {n}" for n in range(30)), "in, quotes", "two\nlines", *(f"row {n}" for n in range(30, 60))]
    last = ingested(put(tmp_path / "y.csv", 'id,text\n1,5" pipe\n2,"open'), tmp_path)
    assert [(row["line"], row["text"], row["reason"]) for row in last] == [(2, '5" pipe', ""), (3, None, "unreadable")]


def test_reference_that_json_has_not_is_a_reject(tmp_path):
    columns = {"text": "text", "reference": "r"}
    put(tmp_path / "x.jsonl", '{"text": "a", "r": {"x": NaN}}\n{"text": "b", "r": Infinity}\n{"text": "c", "r": {"x": 1.5}}\n')
    rows = ingested("x.jsonl", tmp_path, columns=columns)
    assert [(row["reason"], row["reference"]) for row in rows] == [("bad_value", None), ("bad_value", None), ("", '{"x":1.5}')]
    values = [Decimal("0.12345678901234567890"), Decimal("12.50"), Decimal("3.00")]
    pq.write_table(pa.table({"text": ["a", "b", "c"], "r": pa.array(values, pa.decimal128(30, 20))}), tmp_path / "x.parquet")
    rows = ingested("x.parquet", tmp_path, columns=columns)
    assert [(row["reason"], row["reference"]) for row in rows] == [("bad_value", None), ("", "12.5"), ("", "3")]
    assert rows[0]["detail"].startswith("reference: found 0.1234567890123456789")


def test_value_of_parquet_that_python_has_not_costs_its_row_only_if_it_is_mapped(tmp_path):
    texts = pa.array(["a", "b"])
    odd = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(struct.pack("3i", 0, 2, 4)), pa.py_buffer(b"\xff\xfecd")])
    values = {
        "utf8": odd,
        "inside": pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 1, 2], odd)], ["of"]),
        "time": pa.array([2**62, 1], pa.timestamp("us")),
        "zone": pa.array([1, 1], pa.timestamp("us", "Mars/Olympus")),
        "day": pa.array([2**30, 1], pa.int32()).cast(pa.date32()),
        "bytes": pa.array([[(b"k", 1)], []], pa.map_(pa.binary(), pa.int64())),
        "whole": pa.array([[(5, 1)], []], pa.map_(pa.int64(), pa.int64())),
    }
    pq.write_table(pa.table({"text": texts, **values}), tmp_path / "x.parquet")
    assert [(row["text"], row["reason"]) for row in ingested("x.parquet", tmp_path)] == [("a", ""), ("b", "")]
    reasons = {"utf8": "encoding", "time": "bad_value", "day": "bad_value", "zone": "bad_value"}
    for name, reason in reasons.items():
        first, second = ingested("x.parquet", tmp_path, columns={"text": "text", "reference": name})
        assert (first["reason"], second["reason"] == "") == (reason, name != "zone"), name
    first, _ = ingested("x.parquet", tmp_path, columns={"text": "text", "reference": "bytes", "scenario": "whole.5"})
    assert (first["reference"], first["scenario"]) == ('{"k":1}', "1")
    with pytest.raises(InputError, match=r"no row has the column 'txt'.* 'whole\.5'"):
        ingested("x.parquet", tmp_path, columns={"text": "text", "language": "txt"})


@pytest.mark.parametrize(
    ("line", "text"),
    [('"Hello" he said,x', None), ('"Hello" ,x', None), ('"He said ""Hello""",x', 'He said "Hello"'), ('5" pipe,x', '5" pipe')],
)
def test_text_behind_a_closing_quote_costs_its_line(tmp_path, line, text):
    rows = ingested(put(tmp_path / "x.csv", f"text,b\n{line}\nlast,y\n"), tmp_path)
    assert [(row["line"], row["text"], row["reason"]) for row in rows] == [(2, text, "" if text else "unreadable"), (3, "last", "")]


def test_row_of_empty_values_is_a_reject_and_a_blank_line_is_none(tmp_path):
    put(tmp_path / "in" / "x.csv", 'text,b\none,x\n\n,\n"",""\ntwo,y\n')
    rows = ingested("in/x.csv", tmp_path)
    assert [(row["line"], row["reason"]) for row in rows] == [(2, ""), (4, "empty"), (5, "empty"), (6, "")]
    found = open_corpus(str(tmp_path / "in"), {})
    kept, rejects = read_all(found.blocks[0], found.schema, ["text"])
    assert (kept["text"].to_pylist(), rejects["reason"].to_pylist()) == (["one", "two"], ["empty", "empty"])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_mapped_column_that_a_file_has_twice_is_an_error(tmp_path, form):
    put(tmp_path / "x.csv", "text,id,id\na,1,2\n")
    pq.write_table(pa.table([["a"], [1], [2]], names=["text", "id", "id"]), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=rf"x\.{form}: found the column 'id' more than once in \['text', 'id', 'id'\]"):
        ingested(f"x.{form}", tmp_path, columns={"text": "text", "id": "id"})
    assert form == "parquet" or ingested(f"x.{form}", tmp_path)[0]["text"] == "a"


def test_folders_of_key_and_value_are_columns(tmp_path):
    for folders in ("language=de/layer=long_tail", "language=__HIVE_DEFAULT_PARTITION__/layer=core"):
        put_parquet(tmp_path / "hive" / folders / "0.parquet", [{"text": f"text {folders}"}])
    columns = {"text": "text", "language": "language", "layer": "layer"}
    rows = ingested("hive", tmp_path, columns=columns)
    assert sorted((row["language"], row["layer"]) for row in rows) == [("", "core"), ("de", "long_tail")]
    assert ingested("hive/language=de/**/*.parquet", tmp_path, columns=columns)[0]["language"] == "de"
    found = open_corpus(str(tmp_path / "hive"), {})
    both = [row for block in found.blocks for row in read_all(block, found.schema, found.schema.names)[0].to_pylist()]
    assert sorted(str(row["language"]) for row in both) == ["None", "de"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_mapped_column_that_no_row_has_is_an_error_with_the_nearest_name(tmp_path, form):
    rows = [{"text": f"t{n}", "tier": "core"} for n in range(5)]
    content = {"jsonl": lines(rows), "csv": table(rows), "parquet": b""}[form]
    put(tmp_path / f"x.{form}", content) if content else put_parquet(tmp_path / "x.parquet", rows)
    with pytest.raises(InputError, match=r"no row has the column 'teir', .*found \['text', 'tier'\]\. Did you mean 'tier'\?"):
        ingested(f"x.{form}", tmp_path, columns={"text": "text", "layer": "teir"})


def test_column_that_only_a_late_row_lacks_or_has_is_counted_over_all_rows(tmp_path):
    put(tmp_path / "x.jsonl", lines([*({"text": f"t{n}"} for n in range(1500)), {"text": "last", "layer": "core"}]))
    source = Source(path="x.jsonl", licence="x", columns={"text": "text", "layer": "layer"})
    found = files.source_files([("train", "unit", source)], root=str(tmp_path))
    rows = [row for part in prompts(found[0], max_chars=100) for row in part.to_pylist()]
    missing = sum("layer" in row["missing"] for row in rows)
    files.require_columns(found, {0: len(rows)}, {(0, "layer"): missing})
    with pytest.raises(InputError, match="no row has the column 'layer'"):
        files.require_columns(found, {0: missing}, {(0, "layer"): missing})


def test_columns_of_all_files_are_named_where_one_is_missing(tmp_path):
    for name in ("tier", "kind"):
        put(tmp_path / "in" / f"{name}.jsonl", lines([{"text": f"t{n}", name: "core"} for n in range(600)]))
    source = Source(path="in", licence="x", columns={"text": "text", "layer": "layer"})
    found = files.source_files([("train", "unit", source)], root=str(tmp_path))
    with pytest.raises(InputError, match=r"no row has the column 'layer', .*found \['kind', 'text', 'tier'\]"):
        files.require_columns(found, {0: 600, 1: 600}, {(0, "layer"): 600, (1, "layer"): 600})


def test_nested_columns_and_values_that_are_none(tmp_path):
    rows = [{"data": {"text": f"t{n}", "id": None if n % 2 else float(n)}, "tags": ["a", f"b{n}"]} for n in range(4)]
    put_parquet(tmp_path / "x.parquet", rows)
    content = lines(rows).replace(b'"id": null', b'"id": NaN')
    put(tmp_path / "x.jsonl", content)
    columns = {"text": "data.text", "id": "data.id", "scenario": "tags.1"}
    for name in ("x.parquet", "x.jsonl"):
        found = ingested(name, tmp_path, columns=columns)
        assert [(row["text"], row["scenario"], row["source_id"]) for row in found] == [
            ("t0", "b0", "0.0"), ("t1", "b1", None), ("t2", "b2", "2.0"), ("t3", "b3", None)
        ]  # fmt: skip
    put(tmp_path / "x.csv", "text,id,language\na,nan,\nb,NaT,\nc,<NA>,\nd,7,de\n")
    found = ingested("x.csv", tmp_path, columns={"text": "text", "id": "id", "language": "language"})
    assert [(row["source_id"], row["language"]) for row in found] == [(None, ""), (None, ""), (None, ""), ("7", "de")]
    corpus = open_corpus(str(tmp_path / "x.parquet"), {"--text-column": "data.text"})
    assert read_all(corpus.blocks[0], corpus.schema, ["data.text"])[0]["data.text"].to_pylist() == ["t0", "t1", "t2", "t3"]


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "colour": {"type": "string"}, "size": {"type": ["integer", "null"]}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_reference_of_parquet_has_no_null_that_the_schema_forbids(tmp_path):
    references = [{"name": "lamp", "colour": "red", "size": None}, {"name": "desk", "size": None}, {"name": "bed", "size": 2}]
    rows = [{"text": "t", "reference": one} for one in references]
    put(tmp_path / "x.jsonl", lines(rows))
    put_parquet(tmp_path / "x.parquet", rows)
    columns = {"text": "text", "reference": "reference"}
    found = [ingested(name, tmp_path, columns=columns, schema=SCHEMA) for name in ("x.jsonl", "x.parquet")]
    one, other = ([row["reference"] for row in rows] for rows in found)
    assert (
        one[0] == other[0] == '{"name":"lamp","colour":"red","size":null}' and one[1] == other[1] == '{"name":"desk","size":null}'
    )
    assert one[2] == other[2] == '{"name":"bed","size":2}'
    either = {"oneOf": [SCHEMA, {"type": "object", "properties": {"no": {"const": True}}, "additionalProperties": False}]}
    assert as_text({"no": True, "name": None, "colour": None}, either) == '{"no":true}'
    nested = {"properties": {"items": {"items": {"properties": {"a": {"type": "string"}}}}}}
    assert as_text({"items": [{"a": None, "b": 1}]}, nested) == '{"items":[{"b":1}]}'
    assert as_text({"a": None}) == '{"a":null}'


def test_schemas_are_joined_by_name_and_bad_rows_are_counted(tmp_path):
    first = pa.table({"id": ["a"], "text": ["t"], "meta": pa.nulls(1), "n": pa.array([1]), "only": ["x"]})
    second = pa.table(
        {"n": [1.5], "meta": ["m"], "text": pa.array(["u"]).dictionary_encode(), "id": pa.array(["b"], pa.large_string())}
    )
    for number, one in enumerate((first, second)):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(one, tmp_path / "in" / f"{number}.parquet")
    put(tmp_path / "in" / "2.jsonl", b'{"id": "c", "text": "v", "n": 2}\nbroken\n')
    put(tmp_path / "in" / "3.csv", 'id,text\nd,w\ne,"open\n')
    put(tmp_path / "in" / "4.json.gz", gzip.compress(b"[]"))
    found = open_corpus(str(tmp_path / "in"), {"--text-column": "text"})
    parts = [read_all(block, found.schema, found.schema.names) for block in found.blocks]
    rows = [row for part, _ in parts for row in part.to_pylist()]
    assert [tuple(row.values()) for row in rows] == [
        ("a", "t", None, 1.0, "x"), ("b", "u", "m", 1.5, None), ("c", "v", None, 2.0, None), ("d", "w", None, None, None)
    ]  # fmt: skip
    assert [(row["source"], row["line"]) for _, bad in parts for row in bad.to_pylist()] == [("2.jsonl", 2), ("3.csv", 3)]


def test_types_that_no_type_holds_are_refused():
    assert joined_type(pa.int64(), pa.string()) is None and joined_type(pa.list_(pa.int64()), pa.int64()) is None
    assert joined_type(pa.struct([("a", pa.int64())]), pa.struct([("b", pa.string())])) == pa.struct(
        [("a", pa.int64()), ("b", pa.string())]
    )


def test_lines_that_differ_behind_the_sample_are_looked_at_thoroughly(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.dedup.corpus.SAMPLE", 10)
    put(
        tmp_path / "x.jsonl",
        lines([{"id": 1, "text": "a"}, {"id": "b7", "text": "b", "more": {"k": 1}}, {"id": 3, "more": {"k": "x"}}]),
    )
    found = open_corpus(str(tmp_path / "x.jsonl"), {})
    with pytest.raises(SchemaDrift, match=r"x\.jsonl"):
        read_all(found.blocks[0], found.schema, ["id"])
    found = open_corpus(str(tmp_path / "x.jsonl"), {}, thorough=True)
    rows = read_all(found.blocks[0], found.schema, ["id", "more"])[0].to_pylist()
    assert rows == [{"id": "1", "more": None}, {"id": "b7", "more": '{"k": 1}'}, {"id": "3", "more": '{"k": "x"}'}]


def test_rows_that_are_not_taken_are_counted_and_not_parsed(tmp_path, monkeypatch):
    put(tmp_path / "x.jsonl", lines([{"text": f"t{n}"} for n in range(100)]))
    parsed = []
    monkeypatch.setattr("engine.readers.json_rows._object", lambda *row: parsed.append(row) or formats.RawRow(*row))
    source = Source(path="x.jsonl", licence="x", columns={"text": "text"}, take=10)
    found = files.source_files([("train", "unit", source)], root=str(tmp_path))
    parsed.clear()
    (found,) = files.with_counts(found, {0: found[0].count()})
    assert found.total == 100 and not parsed
    assert len(list(found.rows())) == len(parsed) == 10


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=20).filter(lambda text: text.strip())


ROW = st.fixed_dictionaries({"text": TEXT, "id": TEXT, "language": st.sampled_from(["de", "en"])})


@settings(max_examples=15, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=6))
def test_all_forms_of_the_same_rows_give_the_same_prompts(tmp_path_factory, rows):
    root = tmp_path_factory.mktemp("forms")
    put(root / "a.jsonl", lines(rows))
    put(root / "b.json", json.dumps(rows))
    put(root / "c.csv.gz", gzip.compress(table(rows).encode()))
    put(root / "d.tsv.zst", PACK[".zst"](table(rows, "\t").encode()))
    put_parquet(root / "e.parquet", rows)
    put_parquet(root / "f.parquet", [{"data": row} for row in rows], row_group_size=2)
    for number, row in enumerate(rows):
        alone = lines([{"text": row["text"], "id": row["id"]}])
        put(root / "g" / f"{number}" / f"language={row['language']}" / "x.ndjson.bz2", bz2.compress(alone))
    columns = {"text": "text", "id": "id", "language": "language"}
    seen = []
    for name in ("a.jsonl", "b.json", "c.csv.gz", "d.tsv.zst", "e.parquet", "f.parquet", "g"):
        mapped = {ours: f"data.{theirs}" for ours, theirs in columns.items()} if name == "f.parquet" else columns
        found = ingested(name, root, columns=mapped)
        seen.append([tuple(row[key] for key in ("text", "source_id", "language", "reason")) for row in found])
    assert seen[0] == [(row["text"], None if is_no_id(row["id"]) else row["id"], row["language"], "") for row in rows]
    assert all(one == seen[0] for one in seen[1:])


def test_holdout_reads_as_sources_do_and_relative_paths_start_at_the_root(tmp_path):
    put(tmp_path / "h" / "held.tsv", "q\tr\nwhat\tthis\n")
    section = Holdout(path="held.tsv", labels="human", columns={"text": "q", "reference": "r"})
    with chdir(tmp_path):
        (file,) = files.source_files([("holdout", "unit", section)], root="h")
    assert [raw.fields for raw in file.rows()] == [{"q": "what", "r": "this"}]
    assert format_of("https://host/x.jsonl.gz?download=true") == "jsonl"


def test_row_without_an_id_has_file_and_row_in_dedup(tmp_path):
    put_parquet(tmp_path / "x.parquet", [{"id": 1.0, "text": "a"}, {"id": float("nan"), "text": "b"}, {"id": None, "text": "c"}])
    put(tmp_path / "y.jsonl", lines([{"id": "k", "text": "a"}, {"text": "b"}]))

    def ids(name, **options):
        found = open_corpus(str(tmp_path / name), {})
        read = ReadOptions(found.schema, "text", "id", (), None, "nfc")._replace(**options)
        return Documents(found.blocks[0], read, 0, True).signed().rows["id"].to_pylist()

    assert ids("y.jsonl") == ["k", "y.jsonl:1"]
    with pytest.raises(IdsMissing, match=r"x\.parquet"):
        ids("x.parquet")
    assert ids("x.parquet", text_ids=True) == ["1", "x.parquet:1", "x.parquet:2"]
