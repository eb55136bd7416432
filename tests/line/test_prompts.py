"""The prompts job in threads and on a real cluster: good rows, every kind of bad row, copies, shards, changed sources."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import pytest
from data_world import context, contract, mails, run, write_jsonl, write_parquet

from engine.contract.profile import Pool
from engine.distributed import in_process
from engine.errors import InputError, RecipeMismatch
from engine.prompts import files, flow
from engine.records.prompts import LayerShare, PromptsMetrics
from engine.rows import DROPPED_PROMPT, HOLDOUT, PROMPT, REJECT
from engine.runs.job import is_finished
from engine.storage.artifact import load_artifact
from engine.storage.shards import read_shard

pytestmark = pytest.mark.usefixtures("executor")

TEXTS = mails(40)
SECTION = {
    "sources": [
        {
            "path": "seeds.jsonl",
            "licence": "CC0-1.0",
            "columns": {"text": "input", "layer": "layer", "id": "id", "scenario": "kind"},
        },
        {"path": "more.csv", "licence": "MIT"},
        {"path": "many/*.parquet", "licence": "MIT", "take": 5},
    ],
    "holdout": {"path": "holdout.jsonl", "labels": "rule"},
    "redact": ["email"],
    "layers": {"core": 0.5, "long_tail": 0.5},
    "copies": {"threshold": 0.8, "ngram": 3},
    "shard_rows": 7,
}


def world(folder: Path) -> None:
    """Sources with something wrong in each."""
    rows: list = [{"input": text, "layer": "core", "id": i, "kind": "ab"[i % 2]} for i, text in enumerate(TEXTS[:18])]
    rows[1]["input"] += " Write to jane@example.org."
    rows[16] = '{"input": "broken'
    rows += [
        {"input": "Stra\u00dfe", "id": "latin"},
        {"other": 1},
        {"input": " "},
        {"input": "x" * 100_000},
        {"input": "again", "id": 3},
        {"input": "y", "layer": "kernel"},
        {"input": TEXTS[0].upper()},  # exact copy
        {"input": TEXTS[2] + " Thanks!"},  # near copy
        {"input": TEXTS[30]},  # copy of the holdout
        {"input": TEXTS[31] + " Thanks!"},  # near copy of the holdout
    ]
    lines = [json.dumps(row, ensure_ascii=False) if not isinstance(row, str) else row for row in rows]
    write_jsonl(folder / "seeds.jsonl", [line.encode("latin-1" if "latin" in line else "utf-8") for line in lines])
    with (folder / "more.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["input"], *([text] for text in TEXTS[18:24])])
    (folder / "many").mkdir()
    for name, texts in (("a", TEXTS[24:27]), ("b", TEXTS[27:30] + TEXTS[36:40])):
        write_parquet(folder / "many" / f"{name}.parquet", [{"input": text} for text in texts])
    write_jsonl(folder / "holdout.jsonl", [{"input": text, "reference": {"n": 1}} for text in [*TEXTS[30:34], TEXTS[33]]])


@pytest.fixture(scope="module")
def made(executor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    world(folder)
    run(folder, "prompts", contract(prompts=SECTION))
    return folder


def artifact(folder):
    found = load_artifact(context(folder, "prompts", contract(prompts=SECTION)).run / "prompts")
    assert found is not None
    return found


def test_prompts_every_row_goes_to_exactly_one_place(made):
    row_counts = artifact(made).record.row_counts
    found = {label: rows for label, rows in row_counts.rows_out.items() if rows}
    assert found == {
        "prompts": 28, "holdout": 4, "unreadable": 1, "encoding": 1, "missing_column": 1, "empty": 1, "too_long": 1,
        "duplicate_id": 1, "bad_value": 1, "exact_copy": 2, "near_copy": 1, "holdout_copy": 1, "holdout_near": 1,
    }  # fmt: skip
    assert row_counts.rows_in == 28 + 6 + 5 + 5 == sum(found.values())


def test_prompts_rejects_name_file_line_and_reason(made):
    rows = artifact(made).read("rejects", REJECT).to_pylist()
    places = {(row["source"], row["line"]): row["reason"] for row in rows}
    assert places == {
        ("seeds.jsonl", 17): "unreadable", ("seeds.jsonl", 19): "encoding", ("seeds.jsonl", 20): "missing_column",
        ("seeds.jsonl", 21): "empty", ("seeds.jsonl", 22): "too_long", ("seeds.jsonl", 23): "duplicate_id",
        ("seeds.jsonl", 24): "bad_value",
    }  # fmt: skip
    assert all(row["detail"] and len(row["raw"]) <= 200 for row in rows)


def test_prompts_dropped_copies_name_the_prompt_they_lost_to(made):
    found = artifact(made)
    kept = [found.read(name, kind)["prompt_id"].to_pylist() for name, kind in (("prompts", PROMPT), ("holdout", HOLDOUT))]
    stays = {one for ids in kept for one in ids}
    dropped = found.read("dropped", DROPPED_PROMPT).to_pylist()
    assert len(dropped) == 5 and {row["duplicate_of"] for row in dropped} <= stays
    assert all(row["similarity"] == 1 for row in dropped if row["dropped_by"].endswith("copy") and "near" not in row["dropped_by"])
    trained = set(found.read("prompts", PROMPT)["text"].to_pylist())
    assert not trained & set(TEXTS[30:34])


def test_prompts_are_sorted_by_kind_in_shards_of_the_contracts_size(made):
    found = artifact(made)
    kind = ["task_unit", "scenario", "prompt_id"]
    shards = found.table("prompts").shards
    pieces = [[tuple(row.values()) for row in read_shard(found.folder / "prompts", one, kind).to_pylist()] for one in shards]
    assert sorted(map(len, pieces)) == [7, 7, 7, 7]
    assert all(piece == sorted(piece) for piece in pieces)
    ids = sorted(sorted(row[-1] for row in piece) for piece in pieces)
    assert all(below[-1] < above[0] for below, above in pairwise(ids))


def test_prompts_are_redacted_before_their_id_is_computed_and_metrics_count_it(made):
    found = artifact(made)
    (row,) = [row for row in found.read("prompts", PROMPT).to_pylist() if row["redacted"]]
    assert row["text"].endswith("Write to <EMAIL>.") and row["messages"][0]["content"] == row["text"]
    metrics = found.metrics(PromptsMetrics)
    assert metrics.redacted == {"email": 1}
    assert metrics.layers["core"] == LayerShare(wanted=0.5, found=1.0)
    assert metrics.sources == {"seeds.jsonl": 28, "more.csv": 6, "many/*.parquet": 5, "holdout.jsonl": 5}


def test_prompts_made_again_are_the_same_files(made, tmp_path):
    world(tmp_path)
    again = run(tmp_path, "prompts", contract(prompts=SECTION))
    assert again.record.tables == artifact(made).record.tables
    assert again.fingerprint == artifact(made).fingerprint


def test_prompts_dispositions_do_not_depend_on_the_number_of_partitions(made, executor):
    section = contract(prompts=SECTION).prompts
    sources = [*(("train", "order", one) for one in section.sources), ("holdout", "order", section.holdout)]
    source_files = files.source_files(sources, root=str(made))
    with in_process.flows(executor == "threads", Pool()):
        rows = flow.read(source_files, section, Pool())
        found = [flow.resolve(rows, section, Pool(), partitions=count) for count in (1, 3)]
        one, many = ([in_process.get(refs) for refs in (each.dispositions, each.shard_bounds)] for each in found)
    assert sum(block.num_rows for block in one[0]) == 6 and one == many


def test_prompts_changed_seed_file_is_named_as_a_recipe_mismatch(made):
    order = contract(prompts=SECTION)
    assert is_finished(context(made, "prompts", order))
    before = (made / "more.csv").read_bytes()
    try:
        (made / "more.csv").write_bytes(before + b"one more\n")
        with pytest.raises(RecipeMismatch, match=r"more\.csv"):
            is_finished(context(made, "prompts", order))
    finally:
        (made / "more.csv").write_bytes(before)


def test_prompts_that_are_withdrawn_are_rejects_without_their_texts_and_are_no_copies(made, tmp_path):
    world(tmp_path)
    ids = artifact(made).read("prompts", PROMPT, ["prompt_id", "source"]).to_pylist()
    [first, *_] = [row["prompt_id"] for row in ids if row["source"] == "seeds.jsonl"]
    found = run(tmp_path, "prompts", contract(prompts={**SECTION, "withdrawn": [{"prompt": first}, {"source": "more.csv"}]}))
    assert found.record.row_counts.rows_out["withdrawn"] == 7 and not found.record.warnings
    rejects = [row for row in found.read("rejects", REJECT).to_pylist() if row["reason"] == "withdrawn"]
    assert {row["raw"] for row in rejects} == {""} and {row["source"] for row in rejects} == {"seeds.jsonl", "more.csv"}
    left = found.read("prompts", PROMPT, ["prompt_id", "source"]).to_pylist()
    assert first not in [row["prompt_id"] for row in left] and "more.csv" not in [row["source"] for row in left]


def test_prompts_without_a_good_row_stop_with_the_first_reasons_and_leave_nothing(tmp_path):
    write_jsonl(tmp_path / "seeds.jsonl", ['{"input": ""}', "no json", '{"input": ""}'])
    write_jsonl(tmp_path / "holdout.jsonl", [{"input": "a", "reference": "b"}])
    with pytest.raises(InputError, match=r"prompts\.sources: no row is left") as caught:
        run(tmp_path, "prompts", contract())
    assert "seeds.jsonl line 2: unreadable" in str(caught.value)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
