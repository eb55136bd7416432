"""Withdrawn rows: who holds them, what is refused, and a run without them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_release_registry import run_in, shelf, where  # noqa: F401 - `where` is a fixture

from engine.contract.prompts import Prompts, Withdrawn
from engine.errors import GateRefused, InputError
from engine.prompts.sources import INGESTED
from engine.prompts.withdrawn import withdraw as rejected
from engine.release import learnt
from engine.storage.folder import Folder
from jobs.commands.release import promote, rollback
from jobs.commands.withdraw import as_text, withdraw

PROMPTS = pa.table(
    {
        "prompt_id": ["a", "b", "c", "d"],
        "source": ["mails.jsonl", "mails.jsonl", "synthesize/x", "forum.csv"],
        "line": [1, 2, 1, 1],
        "licence": ["CC0-1.0", "CC-BY-4.0", "CC0-1.0", "MIT"],
        "parent_id": [None, None, "b", None],
    }
)


def order(**given):
    return Withdrawn.model_validate(given)


def file_of(rows):
    return pq.ParquetFile(io.BytesIO(learnt.write(rows)))


def test_a_release_lists_what_it_learnt_and_what_that_was_written_from():
    rows = learnt.learnt(pa.table({"prompt_id": ["c", "d", "c"]}), PROMPTS)
    assert rows["prompt_id"].to_pylist() == ["b", "c", "d"]
    counts = {
        name: learnt.count(file_of(rows), order(**given))
        for name, given in {
            "parent": {"prompt": "b"},
            "unused": {"prompt": "a"},
            "before all": {"prompt": "0"},
            "after all": {"prompt": "z"},
            "source": {"source": "mails.jsonl"},
            "licence": {"licence": "MIT"},
            "no licence": {"licence": "GPL"},
        }.items()
    }
    assert counts == {"parent": 1, "unused": 0, "before all": 0, "after all": 0, "source": 1, "licence": 1, "no licence": 0}


def test_lookups_in_many_rows_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    ids = [f"{number:032x}" for number in sorted(rng.choice(10**6, 20_000, replace=False).tolist())]
    kinds = rng.integers(0, 5, len(ids)).tolist()
    rows = pa.table(
        {"prompt_id": ids, "source": [f"s{kind}" for kind in kinds], "line": range(len(ids)), "licence": ["MIT"] * len(ids)}
    ).cast(learnt.LEARNT)
    file = file_of(rows)
    for wanted in [*rng.choice(ids, 50).tolist(), *(f"{number:032x}" for number in rng.choice(10**6, 50).tolist())]:
        assert learnt.count(file, order(prompt=wanted)) == (wanted in set(ids))
    assert [learnt.count(file, order(source=f"s{kind}")) for kind in range(6)] == [kinds.count(kind) for kind in range(6)]


def test_withdrawn_rows_block_promotion_and_return_and_are_named(where):  # noqa: F811
    registry = f"{where}/registry"
    first = promote(run_in(where, "one", weights="first").folder.url, registry)
    promote(run_in(where, "two", weights="second").folder.url, registry)
    held = Folder(first.release).read(learnt.FILE)
    assert pq.read_table(io.BytesIO(held)).num_rows == 0  # examples of this run have no prompt ids

    with shelf(where).folder.fs.open(f"{Folder(first.release).path}/{learnt.FILE}", "wb") as file:
        file.write(learnt.write(learnt.learnt(pa.table({"prompt_id": ["d"]}), PROMPTS)))
    manifest = json.loads(Folder(first.release).read("release.json"))
    measured = Folder(first.release).measure(learnt.FILE)
    for entry in manifest["files"]:
        if entry["path"] == learnt.FILE:
            entry |= {"bytes": measured.bytes, "sha256": measured.sha256}
    Folder(first.release).write("release.json", json.dumps(manifest).encode())

    dry = withdraw(registry, {"licence": "MIT"}, why="", dry_run=True)
    assert dry.event is None and [(held.student, held.rows, held.champion) for held in dry.releases] == [("small", 1, False)]
    assert shelf(where).withdrawals.events() == []
    found = withdraw(registry, {"licence": "MIT"}, why="the owner asked")
    assert found.event is not None and "prompts.withdrawn: [{licence: MIT}]" in as_text(found)
    assert withdraw(registry, {"licence": "MIT"}, why="again").event == found.event  # once
    with pytest.raises(
        GateRefused, match=r"licence MIT: 1 prompts, withdrawn 20\d\d-\d\d-\d\d: the owner asked\n.*\{licence: MIT\}"
    ):
        rollback(registry, "forms")


def test_student_that_learnt_withdrawn_rows_is_not_promoted(where):  # noqa: F811
    registry = f"{where}/registry"
    run = run_in(where)
    examples = run.artifact("dataset").read("examples", pa.schema([("example_id", pa.string()), ("split", pa.string())]))
    ids = pa.array([str(number % 3) for number in range(len(examples))])
    clean = run.artifact("dataset").record.metrics
    run.finish("dataset", {"examples": with_ids(run, ids)}, needs=["prompts"], **clean)
    for name in ("large", "small"):
        run.finish(f"students/{name}", {}, files={"model/weights.bin": name.encode()}, needs=["dataset"])
    report = {name: run.artifact("reports").folder.read(name) for name in ("report.json", "contract.json")}
    run.finish("reports", {}, files=report, needs=["prompts", "dataset", "students/large", "students/small"])

    result = withdraw(registry, {"prompt": "0"}, why="erasure", runs=where.url)
    assert result.releases == () and "No release" in as_text(result)
    with pytest.raises(GateRefused, match="'small' learnt from rows that were withdrawn:\n  prompt 0: 1 prompts"):
        promote(run.folder.url, registry)
    assert shelf(where).champion is None


def test_a_release_that_does_not_list_what_it_learnt_is_not_returned_to_after_a_withdrawal(where):  # noqa: F811
    registry, one = f"{where}/registry", run_in(where, "one", weights="first")
    first = promote(one.folder.url, registry)
    promote(run_in(where, "two", weights="second").folder.url, registry)
    manifest = json.loads(Folder(first.release).read("release.json"))
    manifest["files"] = [entry for entry in manifest["files"] if entry["path"] != learnt.FILE]
    Folder(first.release).write("release.json", json.dumps(manifest).encode())
    Folder(first.release).remove(learnt.FILE)  # as an earlier version made it
    found = withdraw(registry, {"licence": "MIT"}, why="the owner asked")
    assert [(held.fingerprint, held.rows) for held in found.releases] == [(first.fingerprint, None)]
    with pytest.raises(GateRefused, match=r"does not list what 'small' learnt from.*Promote it again from its run"):
        rollback(registry, "forms")
    assert promote(one.folder.url, registry).changed and learnt.FILE in Folder(first.release).files()
    promote(run_in(where, "three", weights="third").folder.url, registry)
    assert rollback(registry, "forms").fingerprint == first.fingerprint


def test_runs_are_found_at_any_depth_and_those_that_cannot_be_read_are_named(where):  # noqa: F811
    for name in ("one", "rounds/round-000", "a/b/broken"):
        run = run_in(where, name)
        (where / name).write("run.json", b"{}")
        table = {"prompts": PROMPTS, "holdout": PROMPTS.slice(0, 0)}
        run.finish("prompts", {key: rows.select(["prompt_id", "source", "licence"]) for key, rows in table.items()})
    (where / "a/b/broken").write("prompts/record.json", b"{")
    found = withdraw(f"{where}/registry", {"licence": "MIT"}, why="the owner asked")
    assert [(held.run, held.prompts) for held in found.runs] == [((where / name).url, 1) for name in ("one", "rounds/round-000")]
    assert [each.run for each in found.unknown] == [(where / "a/b/broken").url]
    assert f"unknown  {where}/a/b/broken: " in as_text(found)


def with_ids(run, ids):
    from engine.rows import EXAMPLE

    rows = run.artifact("dataset").read("examples", EXAMPLE)
    return rows.set_column(EXAMPLE.get_field_index("prompt_id"), "prompt_id", ids)


@pytest.mark.parametrize(
    ("given", "why", "message"),
    [
        ({}, "x", "found none of them, expected exactly one of --prompt, --source, --licence"),
        ({"prompt": "a", "licence": "MIT"}, "x", "found --prompt and --licence, expected exactly one"),
        ({"prompt": "a"}, " ", "found no reason, expected --why TEXT"),
    ],
)
def test_withdraw_needs_one_thing_and_a_reason(tmp_path, given, why, message):
    with pytest.raises(InputError, match=message):
        withdraw(str(tmp_path), given, why=why)


def ingested(*rows):
    base = {"path": "mails/*.jsonl", "row_key": 0, "split": "train", "round": 0, "reason": "", "redacted": ["email"]}
    given = [{**base, "text": "secret", "raw": "secret raw", **row} for row in rows]
    return pa.Table.from_pylist(given, schema=INGESTED)


def test_named_rows_become_rejects_without_their_texts():
    rows = ingested(
        {"prompt_id": "a", "source": "mails/1.jsonl", "licence": "MIT", "line": 1},
        {"prompt_id": "b", "source": "mails/2.jsonl", "licence": "CC0-1.0", "line": 7},
        {"prompt_id": None, "source": "mails/2.jsonl", "licence": "CC0-1.0", "line": 8, "reason": "unreadable"},
        {"prompt_id": "d", "source": "forum.csv", "licence": "CC0-1.0", "line": 1, "path": "forum.csv"},
    )
    found = rejected(rows, [order(prompt="a"), order(source="mails/2.jsonl")]).to_pylist()
    assert [(row["reason"], row["detail"]) for row in found] == [
        ("withdrawn", "its prompt is withdrawn"),
        ("withdrawn", "its source is withdrawn"),
        ("withdrawn", "its source is withdrawn"),
        ("", None),
    ]
    assert [(row["prompt_id"], row["text"], row["raw"], row["line"]) for row in found[:2]] == [
        (None, None, "", 1),
        (None, None, "", 7),
    ]
    assert found[3]["text"] == "secret"
    assert [row["reason"] for row in rejected(rows, [order(source="mails/*.jsonl")]).to_pylist()] == ["withdrawn"] * 3 + [""]
    assert rejected(rows, []).equals(rows)


def test_contract_names_one_thing_each_and_an_empty_list_is_no_part_of_a_recipe():
    with pytest.raises(ValueError, match="found prompt and source, expected exactly one of prompt, source, licence"):
        order(prompt="a", source="b")
    sections = {"sources": [{"path": "a", "licence": "MIT"}], "holdout": {"path": "b", "labels": "rule"}}
    assert "withdrawn" not in Prompts.model_validate(sections).model_dump(mode="json")
