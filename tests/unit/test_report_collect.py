"""The data of the page: bounded, complete, the same for the same run."""

from dataclasses import replace

import pyarrow as pa
import pytest
import sample_report
import sample_run

from engine.records.record import ArtifactRecord, Identity
from engine.records.report import Report
from engine.report import funnel
from engine.report.collect import collect
from engine.report.page import page
from engine.report.sampling import keep_first, within
from engine.rows import DROPPED_BY, PICKED, POOLS, STEP, from_rows
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.storage.shards import table_of, write_shard


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    return sample_run.run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def data(arguments):
    return collect(**arguments)


def test_counts_of_every_pool_and_drop_reason_equal_the_rows(arguments, data):
    picked = arguments["artifacts"]["dataset"].read("picked", PICKED, ["pool", "dropped_by"]).to_pylist()
    for pool in POOLS:
        for why in DROPPED_BY:
            rows = sum(row["pool"] == pool and row["dropped_by"] == why for row in picked)
            assert data.counts.dispositions.get((pool, why), 0) == rows
    assert data.counts.answers == len(picked)


def test_flow_loses_no_row_at_any_box(data):
    nodes, links = funnel.flow(data)
    last = max(node.column for node in nodes)
    for node in nodes:
        into = sum(link.size for link in links if link.end == node.key)
        out = sum(link.size for link in links if link.start == node.key)
        assert node.column == 0 or into == pytest.approx(node.size), node
        assert not out or node.column == last or out == pytest.approx(node.size), node


def test_flow_names_every_pool_and_drop_reason_that_has_rows(data):
    keys = {node.key for node in funnel.flow(data)[0]}
    assert {f"pool:{pool}" for pool, _ in data.counts.dispositions} <= keys
    assert {f"drop:{why}" for _, why in data.counts.dispositions if why} <= keys
    assert {"out:unreadable", "out:near_copy", "out:holdout", "kept"} <= keys


def test_stage_that_loses_a_row_is_not_called_conserved(data):
    jobs = [ArtifactRecord.model_construct(job="candidates", row_counts=RowCounts(10, {"train": 6, "hard": 3}))]
    assert not funnel.stage_of(jobs[0]).is_conserved
    assert all(stage.is_conserved for stage in map(funnel.stage_of, data.jobs))


def test_samples_hold_every_pool_with_its_lineage(arguments, data):
    assert {sample["pool"] for sample in data.samples} == {pool for pool, _ in data.counts.dispositions}
    assert len(data.samples) <= 200
    kept = next(sample for sample in data.samples if sample["dropped_by"] == "")
    assert kept["split"] in ("train", "validation")
    assert kept["source"] == "order_mail/train.jsonl" and kept["line"] >= 1
    assert kept["checks"][0]["check"] == "json_schema"


def test_dropped_point_names_the_point_it_lost_to(arguments, data):
    picked = {row["answer_id"]: row for row in arguments["artifacts"]["dataset"].read("picked", PICKED).to_pylist()}
    texts = {row["text"]: row for row in picked.values() if row["dropped_by"] in ("minhash", "semantic", "exact")}
    linked = [point for point in data.points if point.duplicate_of >= 0]
    assert linked
    for point in linked:
        lost = next(row for text, row in texts.items() if text.startswith(point.text[:150]) and row["duplicate_of"])
        assert picked[lost["duplicate_of"]]["text"].startswith(data.points[point.duplicate_of].text[:150])


def test_map_has_one_point_a_prompt(data):
    assert len(data.points) == len(sample_run.seeds("train"))
    assert len({(point.x, point.y) for point in data.points}) == len(data.points)


def test_point_of_a_prompt_shows_its_best_disposition(arguments, data):
    dispositions: dict[str, set[str]] = {}
    for row in arguments["artifacts"]["dataset"].read("picked", PICKED, ["text", "dropped_by"]).to_pylist():
        dispositions.setdefault(row["text"][:150], set()).add(row["dropped_by"])
    assert any("pool" in found and found & {"minhash", "semantic"} for found in dispositions.values())
    for point in data.points:
        found = dispositions[point.text[:150]]
        lost_to_another = found - {"pool", "sample"}
        assert point.dropped_by == "" if "" in found else point.dropped_by in (lost_to_another or found)


def test_pairs_show_copies_of_prompts_beside_what_they_copy(arguments, data):
    assert data.pairs["near_copy"][0].kept_text
    assert data.pairs["holdout_near"][0].kept_text  # it lost to a holdout prompt
    assert data.pairs["contaminated"][0].kept_text == ""  # what it lost to is no answer
    assert "pool" not in data.pairs  # loses to a rule, not to a row


def test_first_rows_are_the_same_for_any_order_of_shards():
    rows = pa.table({"pool": ["a", "b"] * 50, "answer_id": [f"{n * 7919 % 100:03d}" for n in range(100)]})
    parts = [rows.slice(start, 10) for start in range(0, 100, 10)]
    forward = keep_first(parts, ["pool", "answer_id"], count=4)
    backward = keep_first(reversed(parts), ["pool", "answer_id"], count=4)
    smallest = rows.sort_by([("pool", "ascending"), ("answer_id", "ascending")]).to_pylist()
    assert forward is not None and backward is not None
    assert forward.to_pylist() == backward.to_pylist() == smallest[:4] + smallest[50:54]


def test_first_rows_of_nothing_are_none():
    assert keep_first([], ["pool"], count=3) is None
    assert keep_first([pa.table({"pool": pa.array([], pa.string())})], ["pool"], count=3) is None


def test_budget_counts_bytes_not_characters():
    rows = [{"text": "\u00e9" * 100}] * 10
    assert len(within(rows, 450)) == 2


def test_rows_in_many_shards_give_the_same_page(tmp_path, arguments, data):
    picked = arguments["artifacts"]["dataset"].read("picked", PICKED)
    writer = ArtifactWriter(Folder(str(tmp_path)) / "dataset")
    shards = [write_shard(writer.folder / "picked", picked.slice(start, 100), PICKED) for start in range(0, picked.num_rows, 100)]
    writer.tables["picked"] = table_of(shards, "0")
    head = Identity("dataset", {}, {}, "")
    many = {**arguments["artifacts"], "dataset": writer.finish(head, RowCounts(picked.num_rows, {"": picked.num_rows}))}
    one, split = data, collect(**{**arguments, "artifacts": many})
    assert one.counts == split.counts and one.points == split.points
    assert [row["answer_id"] for row in one.samples] == [row["answer_id"] for row in split.samples]


def test_run_without_dataset_counts_candidates(arguments):
    data = collect(**{**arguments, "artifacts": {"candidates": arguments["artifacts"]["candidates"]}})
    assert data.counts.answers == arguments["artifacts"]["candidates"].table("candidates").rows
    assert data.samples and "dropped_by" not in data.samples[0]
    assert data.points == []


def test_predictions_bring_every_model_of_a_prompt(data):
    assert 100 < len(data.predictions) <= len(sample_run.seeds("holdout"))  # as many as the page has room for
    assert all(set(row["models"]) == set(sample_report.MODELS) for row in data.predictions)


def test_steps_are_thinned_but_every_validation_stays(tmp_path):
    steps = [
        {"student": "s", "step": n, "split": split, "loss": 1.0, "tokens": n * 100}
        for n in range(5_000)
        for split in (("train", "validation") if n % 100 == 0 else ("train",))
    ]
    writer = ArtifactWriter(Folder(str(tmp_path)) / "students/s")
    writer.put("steps", from_rows(steps, STEP), STEP)
    made = writer.finish(Identity("students/s", {}, {}, ""), RowCounts(0, {}))
    found = collect({"students/s": made}, report=Report(), contract={}, predictions=None).steps["s"]
    assert sum(step.split == "validation" for step in found) == 50
    assert len(found) <= 460


def test_of_several_seeds_the_curve_of_the_exported_one_is_shown(tmp_path):
    steps = [{"student": "s", "step": 1, "split": "validation", "loss": float(seed), "tokens": 1, "seed": seed} for seed in (3, 4)]
    writer = ArtifactWriter(Folder(str(tmp_path)) / "students/s", metrics={"seed": 4})
    writer.put("steps", from_rows(steps, STEP), STEP)
    made = writer.finish(Identity("students/s", {}, {}, ""), RowCounts(0, {}))
    [point] = collect({"students/s": made}, report=Report(), contract={}, predictions=None).steps["s"]
    assert point.loss == 4.0


def test_stages_tell_what_goes_on_from_what_leaves(data):
    kinds = {stage.job: {outcome.label: outcome.kind for outcome in stage.outcomes} for stage in map(funnel.stage_of, data.jobs)}
    assert kinds["prompts"]["prompts"] == kinds["dataset"]["picked"] == kinds["students/s"]["trained"] == "on"
    assert kinds["prompts"]["holdout"] == kinds["candidates"]["review"] == "aside"
    assert kinds["prompts"]["too_long"] == kinds["dataset"]["quota"] == "out"


def test_student_that_was_cut_says_what_is_left_in_one_line(arguments, data):
    name = next(iter(data.steps))
    cut = {"target": 9, "parameters": 8_000_000, "layers": 2, "heads": 6, "kv_heads": 2, "intermediate": 640, "hidden": 576}
    shape = {"layers": [0, 2], "head_size": 64, "measure": "influence", "layer_importance": [0.5, 0.1, 0.2]}
    shape |= {"recover_steps": 0, "seconds": 1, "cuts": [{**cut, "tried": 3, "loss_before": 0.5, "loss": 4.0}]}
    student = arguments["artifacts"][f"students/{name}"]
    record = student.record.model_copy(update={"metrics": {"shape": shape}})
    artifacts = {**arguments["artifacts"], f"students/{name}": replace(student, record=record)}
    assert data.shapes == {}
    cut_data = collect(**{**arguments, "artifacts": artifacts})
    line = "2 layers (0, 2 of 3), 6 query heads and 2 key-value heads of 64, feed-forward 640, hidden 576; cut to 8 M (loss 4.00)"
    assert cut_data.shapes[name].startswith(line) and f"Cut from its source: {line}" in page(cut_data)
