"""The dataset job in threads and on a real cluster, with the real embedding model."""

import json
import random
import re

import pyarrow as pa
import pytest
from data_world import candidate_rows, context, contract, mails, prompt_row, put_inputs, run, write_jsonl

from engine.contract.profile import Pool
from engine.curation import answers, decide_flow, flow, index_flow
from engine.curation.answers import LabelledCandidates
from engine.dedup import plan
from engine.distributed import in_process
from engine.errors import InputError
from engine.rows import DROPPED_BY, EMBEDDING, EXAMPLE, PICKED, PREFERENCE, content_id
from engine.storage.folder import Folder
from jobs.steps.labels import write as write_labels

pytestmark = pytest.mark.usefixtures("executor")

SECTION = {
    "minhash": {"threshold": 0.8, "ngram": 3},
    "semantic": {"threshold": 0.97},
    "decontaminate": {"ngram": 8, "overlap": 0.9, "lists": [{"path": "exam.jsonl"}]},
    "pick": {"clusters": 5, "per_cluster": 5, "hard_weight": 2.0, "validation": 0.3},
}
TEXTS = [*mails(48)]
COPIES = [TEXTS[0].upper(), TEXTS[1] + " Thanks!"]
HOLDOUT = [TEXTS[2], "This is a text that nobody else has ever written in quite this way."]
EXAM = [{"input": TEXTS[3]}, {"input": None}, {"input": "Another text that occurs nowhere else, for all that anybody knows."}]


def put_all(folder, rows, holdout, *, shard_rows):
    put_inputs(folder, rows, holdout, shard_rows=shard_rows)
    write_jsonl(folder / "exam.jsonl", EXAM)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return str(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def made(executor, models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    put_all(folder, candidate_rows(COPIES + TEXTS), HOLDOUT, shard_rows=1000)
    return run(folder, "dataset", contract(curation=SECTION), models=models)


@pytest.fixture(scope="module")
def picked(made):
    return {row["answer_id"]: row for row in made.read("picked", PICKED).to_pylist()}


def test_dataset_keeps_every_candidate_with_one_disposition(made, picked):
    row_counts = made.record.row_counts
    assert row_counts.rows_in == 100 == len(picked) == sum(row_counts.rows_out.values())
    assert row_counts.rows_out["pool"] == 14 and row_counts.rows_out["sample"] == 43
    assert row_counts.rows_out["contaminated"] == 2 and row_counts.rows_out["exact"] == 1
    assert row_counts.rows_out["quota"] > 0 and row_counts.rows_out["picked"] > 10
    assert {row["dropped_by"] for row in picked.values()} <= set(DROPPED_BY)


def test_dataset_what_is_dropped_names_what_it_lost_to(picked):
    loser = picked[content_id(TEXTS[0], 0)]
    assert (loser["dropped_by"], loser["duplicate_of"]) == ("sample", content_id(TEXTS[0], 1))
    leak = picked[content_id(TEXTS[2], 1)]
    assert (leak["dropped_by"], leak["duplicate_of"], leak["similarity"]) == (
        "contaminated",
        prompt_row(TEXTS[2])["prompt_id"],
        1.0,
    )
    assert picked[content_id(TEXTS[3], 1)]["dropped_by"] == "contaminated"
    pair = [picked[content_id(text, 1)] for text in (TEXTS[0], COPIES[0])]
    (copy,) = [row for row in pair if row["dropped_by"] == "exact"]
    assert copy["duplicate_of"] in {row["answer_id"] for row in pair} - {copy["answer_id"]}


def test_dataset_embeds_each_prompt_that_is_left_once(made, picked):
    rows = made.read("embeddings", EMBEDDING).to_pylist()
    placed = {row["prompt_id"] for row in picked.values() if row["x"] is not None}
    assert {row["prompt_id"] for row in rows} == placed and len(rows) == len(placed)
    assert all(sum(value**2 for value in row["embedding"]) == pytest.approx(1, abs=1e-3) for row in rows)


def test_dataset_examples_are_what_is_kept_in_the_form_that_is_learnt(made, picked):
    rows = made.read("examples", EXAMPLE).to_pylist()
    kept = {answer_id for answer_id, row in picked.items() if row["dropped_by"] == ""}
    assert {row["example_id"] for row in rows} == kept
    assert {row["split"] for row in rows} == {"train", "validation"}
    for row in rows:
        assert row["messages"][0] == {"role": "system", "content": "Fill in."}
        assert row["target"] in ('{"product":null,"quantity":"3"}', '{"product":"lamps","quantity":"3"}')
        assert row["limits"] == ("not stated: product" if "null" in row["target"] else "")
        assert row["cluster"] >= 0


def test_dataset_metrics_describe_clusters_and_coverage(made):
    metrics = made.record.metrics
    assert sum(one["rows"] for one in metrics["clusters"]) == made.table("embeddings").rows
    assert all(one["picked"] <= 5 and one["label"] for one in metrics["clusters"])
    core = metrics["coverage"]["layer"]["core"]
    assert core["prompts"] == 50 > core["accepted"] == 43 > core["picked"] == made.table("examples").rows


def test_dataset_reports_what_resembled_the_holdout_and_the_list(made, picked):
    summary = made.record.metrics["decontamination"]
    assert summary["lists"] == {"exam.jsonl": 2, "holdout": 4} and summary["checked"] == 86
    assert [(one["list"], one["part"], one["answers"]) for one in summary["removed"]] == [
        ("exam.jsonl", "prompt", 1), ("holdout", "prompt", 1),
    ]  # fmt: skip
    assert {picked[one["answer_id"]]["dropped_by"] for one in summary["closest"]} == {""}
    assert list(summary["files"]) == ["exam.jsonl"] and summary["holdout"]


@pytest.mark.modes
def test_dataset_with_several_answers_embedding_thresholds_and_quotas(models, tmp_path):
    rows = [row | {"answer": f"{number % 2} {row['text']}"} for number, row in enumerate(candidate_rows(TEXTS))]
    put_all(tmp_path, rows, HOLDOUT, shard_rows=1000)
    section = {
        **SECTION,
        "answers": {"similarity": 0.9999},
        "decontaminate": {"fields": [], "lists": [{"path": "exam.jsonl"}], "similarity": {"prompt": 0.99, "answer": 1.0}},
        "pick": {"order": "facility_location", "count": 20, "quotas": {"cluster": {"*": 9}}, "balance": "cluster"},
    }
    found = run(tmp_path, "dataset", contract(curation=section), models=models)
    rows_out, metrics = found.record.row_counts.rows_out, found.record.metrics
    assert rows_out["picked"] == 40 and rows_out["contaminated"] == 4 and "sample" not in {k for k, v in rows_out.items() if v}
    assert {(one["list"], one["method"], one["answers"]) for one in metrics["decontamination"]["removed"]} == {
        ("exam.jsonl", "embedding", 1), ("holdout", "embedding", 1)
    }  # fmt: skip
    assert metrics["selection"]["rows"]["after"] == 20 and metrics["selection"]["coverage"]["mean"] > 0.6
    weights = found.read("examples", EXAMPLE)["weight"].to_pylist()
    assert sum(weights) == pytest.approx(len(weights), rel=1e-5) and len(set(weights)) > 1


def test_dataset_is_the_same_for_shuffled_candidates_in_many_shards(made, models, tmp_path, monkeypatch):
    for module, name, size in ((answers, "SCAN_ROWS", 20), (answers, "PROMPTS_PER_PARTITION", 30), (plan, "PIECE_BYTES", 999)):
        monkeypatch.setattr(module, name, size)  # entries in three blocks and ranges, candidates in five blocks and groups of these
    monkeypatch.setattr(decide_flow, "SHARD_ROWS", 10)
    rows = candidate_rows(COPIES + TEXTS)
    random.Random(3).shuffle(rows)
    put_all(tmp_path, rows, HOLDOUT[::-1], shard_rows=9)
    again = run(tmp_path, "dataset", contract(curation=SECTION), models=models)
    assert again.table("examples").digest == made.table("examples").digest
    columns = ["answer_id", "dropped_by", "duplicate_of", "cluster"]
    one, other = (found.read("picked", PICKED, columns).sort_by("answer_id") for found in (made, again))
    assert one.equals(other)


def test_dataset_copies_do_not_depend_on_the_number_of_partitions(executor, tmp_path):
    put_all(tmp_path, candidate_rows(COPIES + TEXTS), HOLDOUT, shard_rows=9)
    section = contract(curation=SECTION).curation
    made = context(tmp_path, "dataset", contract(curation=SECTION))
    with in_process.flows(executor == "threads", Pool()):
        protected, found = index_flow.protected_texts(made.artifact("prompts"), None, Pool()), []
        index = index_flow.index_of(protected, made.artifact("prompts"), section, Pool())
        for count in (1, 3):
            entries = flow.entries(LabelledCandidates(made.artifact("candidates")), index, section, Pool(), partitions=count)
            parts = in_process.get(flow.resolve_text_duplicates(entries, section, Pool(), partitions=count).blocks)
            assert len(parts) == count
            found.append(pa.concat_tables(part.dropped for part in parts).sort_by("answer_id"))
    assert found[0].num_rows > 50 and found[0].equals(found[1])


def test_dataset_without_embeddings_has_no_clusters_and_still_drops_copies(tmp_path):
    put_all(tmp_path, candidate_rows(COPIES[:1] + TEXTS[:6]), HOLDOUT, shard_rows=1000)
    found = run(tmp_path, "dataset", contract(curation=SECTION | {"semantic": None, "pick": {}}))
    assert found.record.row_counts.rows_out["exact"] == 1
    assert set(found.read("examples", EXAMPLE)["cluster"].to_pylist()) == {-1}
    assert "embeddings" not in found.record.tables


def test_dataset_of_which_nothing_is_left_stops_and_says_where_to_look(tmp_path):
    rows = [row | {"pool": "failure"} for row in candidate_rows(TEXTS[:3])]
    put_all(tmp_path, rows, HOLDOUT, shard_rows=1000)
    with pytest.raises(InputError, match="none of 6 candidates is left"):
        run(tmp_path, "dataset", contract(curation=SECTION | {"semantic": None, "pick": {}}))


def test_dataset_with_labels_pairs_and_contrastive_examples(tmp_path):
    invented = [{"check": "grounded", "passed": False, "tag": "ungrounded", "detail": "quantity=3"}]
    rows = candidate_rows(TEXTS[10:22])
    for row in rows[::2]:
        row |= {"answer": '{"quantity": "39", "product": null}', "pool": "contrast", "reasons": ["ungrounded"], "checks": invented}
    put_all(tmp_path, rows, HOLDOUT, shard_rows=5)
    waits, wrong = rows[13], rows[3]  # of the one prompt that is failed at, and of another
    labels = {
        waits["answer_id"]: {"answer_id": waits["answer_id"], "label": "corrected", "correction": '{"quantity": "4"}'},
        wrong["answer_id"]: {"answer_id": wrong["answer_id"], "label": "wrong", "correction": ""},
    }
    order = {**SECTION, "semantic": None, "pick": {"validation": 0.0}, "preferences": {}, "contrastive_share": 0.25}
    order["contrastive"] = [{"type": "contrast"}, {"type": "ask"}]
    bare = run(tmp_path, "dataset", contract(curation=order))
    write_labels(Folder(str(tmp_path / "run")), labels)
    found = run(tmp_path, "dataset", contract(curation=order))
    assert found.record.inputs == bare.record.inputs and found.fingerprint != bare.fingerprint

    row_counts, metrics = found.record.row_counts, found.record.metrics
    assert (row_counts.rows_in, row_counts.rows_out["picked"]) == (
        25,
        11,
    )  # 24 answers and a correction; one prompt lost its answer
    assert metrics["labels"] == {"right": 0, "wrong": 1, "corrected": 1}
    assert metrics["kinds"]["answer"] == 11 and sum(metrics["kinds"].values()) == 14  # a quarter at most
    assert metrics["preferences"]["pairs"] == 11 and metrics["preferences"]["reasons"] == {"person_corrected": 1, "ungrounded": 10}
    examples, pairs = found.read("examples", EXAMPLE), found.read("preferences", PREFERENCE)
    assert '{"quantity":"4"}' in examples["target"].to_pylist()
    assert waits["answer_id"] in pairs["rejected_id"].to_pylist() and wrong["prompt_id"] not in pairs["prompt_id"].to_pylist()
    again = run(tmp_path, "dataset", contract(curation=order))
    assert [again.table(name).digest for name in ("examples", "preferences")] == [
        found.table(name).digest for name in ("examples", "preferences")
    ]


def test_dataset_with_variants_of_quoted_values(tmp_path):
    """A variant follows each training example that quotes its quantity, in any split of the input into blocks."""
    rows = candidate_rows(TEXTS[10:30])
    for row in rows:
        row |= {"answer": json.dumps({"quantity": re.findall(r"[0-9]+", row["text"])[0]})}
    unit = contract().specialist.task_units[0].model_dump()
    schema = {"type": "object", "properties": {"quantity": {"type": "string"}}, "required": ["quantity"]}
    quoting = {"goal": "g", "task_units": [unit | {"output": {"json_schema": schema, "spans": {"quantity": 1}}}]}
    section = {
        **SECTION,
        "semantic": None,
        "pick": {"validation": 0.3},
        "swaps": {"per_example": 2, "fields": {"quantity": "digits"}},
    }
    digests = []
    for shard_rows in (7, 1000):
        put_all(tmp_path / str(shard_rows), rows, HOLDOUT, shard_rows=shard_rows)
        found = run(tmp_path / str(shard_rows), "dataset", contract(curation=section, specialist=quoting))
        digests.append(found.table("examples").digest)
    examples = found.read("examples", EXAMPLE).to_pylist()
    trained = [row for row in examples if row["kind"] == "answer" and row["split"] == "train"]
    made = [row for row in examples if row["kind"] == "swap"]
    assert len(made) == 2 * len(trained) and found.record.metrics["kinds"] == {
        "answer": len(examples) - len(made),
        "swap": len(made),
    }
    assert {row["split"] for row in made} == {"train"} and len({row["example_id"] for row in examples}) == len(examples)
    assert digests[0] == digests[1]
