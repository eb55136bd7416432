"""Rows of files become prompts, or rejects with file, line and reason; errors of a whole source stop with a message."""

import csv
import gzip
import itertools
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.load import load_contract
from engine.contract.prompts import Holdout, Source
from engine.errors import ContractError, InputError
from engine.prompts import files
from engine.prompts.sources import identify, prompts
from engine.rows import content_id
from engine.storage.identity import file_identities


def read(path, *, columns=None, max_chars=20_000, take=None, root="."):
    """Return the rows of one train source, as dicts."""
    source = Source(path=str(path), licence="CC0-1.0", columns=columns or {"text": "input"}, take=take)
    source_files = files.source_files([("train", "unit", source)], root=str(root))
    source_files = files.with_counts(source_files, {file.number: file.count() for file in source_files})
    return [row for file in source_files for table in prompts(file, max_chars=max_chars) for row in identify(table).to_pylist()]


def write_lines(path, lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return path


def test_broken_json_on_line_17_is_one_reject_with_its_line(tmp_path):
    lines = [json.dumps({"input": f"mail {n}"}) for n in range(1, 31)]
    lines[16] = '{"input": "mail 17'
    rows = read(write_lines(tmp_path / "seeds.jsonl", lines))
    bad = [row for row in rows if row["reason"]]
    assert [(row["line"], row["reason"], row["raw"]) for row in bad] == [(17, "unreadable", '{"input": "mail 17')]
    assert len(rows) == 30 and rows[17]["text"] == "mail 18"


def test_wrong_encoding_costs_one_line_of_jsonl(tmp_path):
    latin = '{"input": "Stra\u00dfe"}'.encode("latin-1")
    rows = read(write_lines(tmp_path / "seeds.jsonl", ['{"input": "a"}', latin, '{"input": "b"}']))
    assert [row["reason"] for row in rows] == ["", "encoding", ""]
    assert "0xdf" in rows[1]["detail"] and "Stra" in rows[1]["raw"]


def test_wrong_encoding_costs_one_record_of_csv(tmp_path):
    path = write_lines(tmp_path / "seeds.csv", ["input,layer", "a,core", "Stra\u00dfe,core".encode("latin-1"), "b,core"])
    assert [row["reason"] for row in read(path)] == ["", "encoding", ""]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"other": "x"}', "missing_column"),
        ('{"input": ""}', "empty"),
        ('{"input": " \\n "}', "empty"),
        ('{"input": null}', "empty"),
        ('{"input": 5}', "bad_value"),
        ('{"input": "x", "layer": "kernel"}', "bad_value"),
        ('{"input": "x", "difficulty": "Hard"}', "bad_value"),
        ('{"input": "\\ud800"}', "encoding"),
        ("[1, 2]", "unreadable"),
        ('{"input": ' + "[" * 100_000, "unreadable"),
        (json.dumps({"input": "x" * 100_000}), "too_long"),
    ],
)
def test_bad_row_is_a_reject_with_its_reason(tmp_path, line, reason):
    columns = {"text": "input", "layer": "layer", "difficulty": "difficulty"}
    fine = '{"input": "fine", "layer": "core", "difficulty": "medium"}'
    good, bad = read(write_lines(tmp_path / "seeds.jsonl", [fine, line]), columns=columns)
    assert (good["reason"], good["layer"], good["difficulty"]) == ("", "core", "medium")
    assert bad["reason"] == reason and bad["detail"] and len(bad["raw"]) <= 200
    assert bad["prompt_id"] is None and good["prompt_id"]


def test_line_over_the_limit_is_skipped_without_losing_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.readers.json_rows.LINE_LIMIT", 50)
    rows = read(write_lines(tmp_path / "seeds.jsonl", ['{"input": "' + "x" * 500 + '"}', '{"input": "next"}']))
    assert [(row["line"], row["reason"]) for row in rows] == [(1, "too_long"), (2, "")]


def test_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    path = write_lines(tmp_path / "seeds.jsonl", [b"\xef\xbb\xbf" + b'{"input": "a"}', "", "  ", '{"input": "b"}'])
    assert [(row["line"], row["text"]) for row in read(path)] == [(1, "a"), (4, "b")]


def test_csv_with_quoted_newlines_counts_lines_of_the_file(tmp_path):
    path = tmp_path / "seeds.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["input", "layer"], ["one\ntwo", "core"], ["three", "long_tail"], ["too", "many", "fields"]])
    rows = read(path, columns={"text": "input", "layer": "layer"})
    assert [(row["line"], row["text"], row["reason"]) for row in rows] == [
        (2, "one\ntwo", ""),
        (4, "three", ""),
        (5, None, "unreadable"),
    ]


def test_parquet_and_gzip_read_as_jsonl_does(tmp_path):
    values = [{"input": f"mail {n}", "layer": "core"} for n in range(5)]
    write_lines(tmp_path / "a.jsonl", [json.dumps(value) for value in values])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "c.parquet")
    texts = [[(row["text"], row["line"]) for row in read(tmp_path / name)] for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")]
    assert texts[0] == texts[1] == texts[2] and len(texts[0]) == 5


def test_messages_are_kept_and_the_users_turns_are_the_text(tmp_path):
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "two"}]
    lines = [json.dumps({"chat": turns}), json.dumps({"chat": [{"role": "robot", "content": "x"}]}), json.dumps({"chat": []})]
    rows = read(write_lines(tmp_path / "seeds.jsonl", lines), columns={"messages": "chat"})
    assert rows[0]["messages"] == turns and rows[0]["text"] == "one\ntwo"
    assert [row["reason"] for row in rows] == ["", "unknown_role", "empty"]


def test_reference_given_as_an_object_becomes_compact_json(tmp_path):
    path = write_lines(tmp_path / "holdout.jsonl", ['{"input": "a", "reference": {"x": null}}', '{"input": "a", "reference": ""}'])
    rows = read(path, columns={"text": "input", "reference": "reference"})
    assert rows[0]["reference"] == '{"x":null}'
    assert rows[1]["reason"] == "empty"


def test_prompt_id_depends_on_source_and_messages_only(tmp_path):
    write_lines(tmp_path / "seeds.jsonl", ['{"input": "a"}', '{"input": "b"}', '{"input": "a"}'])
    rows = read("seeds.jsonl", root=tmp_path)
    expected = content_id("seeds.jsonl", json.dumps([{"content": "a", "role": "user"}]))
    assert rows[0]["prompt_id"] == rows[2]["prompt_id"] == expected != rows[1]["prompt_id"]


def test_folder_and_glob_read_every_file_in_order_and_name_it(tmp_path):
    (tmp_path / "seeds").mkdir()
    write_lines(tmp_path / "seeds" / "b.jsonl", ['{"input": "b"}'])
    write_lines(tmp_path / "seeds" / "a.jsonl", ['{"input": "a"}'])
    (tmp_path / "seeds" / "README.md").write_text("not read")
    (tmp_path / "seeds" / "empty.jsonl").write_text("")
    for path in ("seeds", "seeds/*.jsonl"):
        rows = read(path, root=tmp_path)
        assert [(row["text"], row["source"]) for row in rows] == [("a", "seeds/a.jsonl"), ("b", "seeds/b.jsonl")]
    assert len({row["row_key"] for row in rows}) == 2


@pytest.mark.parametrize("take", [1, 7, 10, 99])
def test_take_spreads_rows_evenly_over_all_files_of_a_source(tmp_path, take):
    (tmp_path / "seeds").mkdir()
    for name, numbers in (("a", range(0, 30)), ("b", range(30, 40))):
        write_lines(tmp_path / "seeds" / f"{name}.jsonl", [json.dumps({"input": str(number)}) for number in numbers])
    found = [int(row["text"]) for row in read(tmp_path / "seeds", take=take)]
    assert len(found) == min(take, 40)
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_url_of_any_file_system_is_read_and_its_content_identified():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/bucket/seeds.jsonl", b'{"input": "a"}\n')
    assert [row["text"] for row in read("memory://bucket/seeds.jsonl")] == ["a"]
    before = file_identities(["memory://bucket/seeds.jsonl"], root=".")
    fs.pipe_file("/bucket/seeds.jsonl", b'{"input": "a"}\n{"input": "b"}\n')
    assert file_identities(["memory://bucket/seeds.jsonl"], root=".") != before


def test_identity_changes_with_one_byte_and_names_a_missing_file(tmp_path):
    path = write_lines(tmp_path / "seeds.jsonl", ['{"input": "a"}'])
    before = file_identities(["seeds.jsonl"], root=str(tmp_path))
    path.write_text('{"input": "b"}\n')
    after = file_identities(["seeds.jsonl"], root=str(tmp_path))
    assert before.keys() == after.keys() == {"seeds.jsonl"} and before != after
    path.unlink()
    assert file_identities(["seeds.jsonl"], root=str(tmp_path)) == {"seeds.jsonl": "missing"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jsonl", None, "found no file"),
        ("empty.jsonl", b"", "found no rows"),
        ("blank.jsonl", b"\n \n", "found no rows"),
        ("header.csv", b"input,layer\n", "found no rows"),
        ("other.csv", b"a,b\n1,2\n", "found columns"),
        ("broken.parquet", b"not parquet at all", "cannot be read"),
        ("broken.jsonl.gz", b"not gzip", "cannot be read"),
        ("seeds.xlsx", b"x", "unknown ending"),
    ],
)
def test_error_of_a_whole_source_names_what_is_wrong_and_what_to_do(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(name, root=tmp_path)
    assert name in str(caught.value)
    assert any(word in str(caught.value) for word in ("expected", "Correct"))


def test_contract_refuses_columns_without_a_prompt_or_a_reference():
    with pytest.raises(ValueError, match="needs text or messages"):
        Source(path="a.jsonl", licence="x", columns={"layer": "layer"})
    with pytest.raises(ValueError, match="needs reference"):
        Holdout(path="a.jsonl", labels="rule", columns={"text": "input"})


def test_contract_names_an_unknown_column(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("prompts: {sources: [{path: a, licence: b, columns: {txt: input}}]}")
    with pytest.raises(ContractError, match=r"prompts\.sources\.0\.columns\.txt"):
        load_contract(path)
