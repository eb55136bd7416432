"""Every way of synthesis on the real model, through the contract that is shipped for it."""

import json
import subprocess
import sys
from pathlib import Path

import data_world
import pytest

from engine.contract.load import load_contract
from engine.prompts.ablate_fact import removable_facts
from engine.records.prompts import PromptsMetrics
from engine.rows import DROPPED_PROMPT, HOLDOUT, PROMPT, REJECT
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONTRACT = ROOT / "jobs" / "contracts" / "synthesis.yaml"
METHODS = {"counter_example", "self_instruct", "evolve", "paraphrase"}

SEEDS = data_world.mails(8)
HELD = SEEDS.pop()
FRESH = ("The rectory would like 5 kites for the fair in June.", "Where are the 90 pencils that we paid for in March?")


@pytest.mark.modes
def test_synthesis_in_rounds_loses_no_ask_and_says_what_is_missing(cluster, tmp_path):
    data_world.write_jsonl(tmp_path / "seeds.jsonl", [{"input": text} for text in SEEDS])
    data_world.write_jsonl(tmp_path / "holdout.jsonl", [{"input": HELD, "reference": "{}"}])
    # What the engine says, in each round from the first.
    replies = (HELD + " Thanks!", FRESH[0] + " I am paul@church.org", FRESH[1], "No.")
    evolve = {"method": {"type": "evolve"}, "wanted": {"core": 4}, "model": {"type": "fake", "replies": replies}}
    another = {
        "method": {"type": "self_instruct"},
        "wanted": {"long_tail": 1},
        "model": {"type": "fake", "replies": [SEEDS[0] + " Bye"]},
    }
    prompts = {**data_world.CONTRACT["prompts"], "synthesize": [evolve, another], "redact": ["email"]}
    artifact = data_world.run(tmp_path, "prompts", data_world.contract(prompts=prompts))
    row_counts = artifact.record.row_counts
    found = {label: rows for label, rows in row_counts.rows_out.items() if rows}
    assert found == {"prompts": 9, "holdout": 1, "holdout_near": 2, "exact_copy": 1, "near_copy": 2, "synthesis_empty": 1}
    assert row_counts.rows_in == 7 + 1 + 6 + 2 == sum(found.values())
    metrics = artifact.metrics(PromptsMetrics).synthesis
    assert metrics is not None and metrics.tokens_out > 0
    counts = [tuple(quota.model_dump().values()) for quota in metrics.quotas]
    assert counts == [("synthesize/evolve", "core", 4, 6, 5, 2, 2), ("synthesize/self_instruct", "long_tail", 1, 2, 2, 0, 1)]
    kept = artifact.read("prompts", PROMPT).to_pylist()
    assert {row["text"] for row in kept} == {*SEEDS, FRESH[0] + " I am <EMAIL>", FRESH[1]}
    assert {row["parent_id"] for row in kept} - {None} <= {row["prompt_id"] for row in kept}


def rayleigh(*words):
    command = [sys.executable, "-m", "jobs.cli", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthesis") / "run"
    rayleigh("run", CONTRACT, folder, "--profile", HERE / "profile.yaml", "--until", "prompts")
    return folder


@pytest.fixture(scope="module")
def made(run):
    found = load_artifact(Folder(str(run / "prompts")))
    assert found is not None
    return found


@pytest.mark.modes
@pytest.mark.timeout(1800)
def test_synthesis_each_method_wrote_prompts_that_stay(made):
    kept = {row["source"] for row in made.read("prompts", PROMPT).to_pylist()}
    assert {f"synthesize/{name}" for name in METHODS} <= kept


@pytest.mark.modes
@pytest.mark.timeout(1800)
def test_synthesis_every_ask_ends_in_exactly_one_table(made):
    tables = {"prompts": PROMPT, "holdout": HOLDOUT, "rejects": REJECT, "dropped": DROPPED_PROMPT}
    places = [(row["source"], row["line"]) for name, kind in tables.items() for row in made.read(name, kind).to_pylist()]
    assert len(places) == len(set(places)) == made.record.row_counts.rows_in
    quotas = made.metrics(PromptsMetrics).synthesis.quotas
    assert all(one.kept + one.missing == one.wanted and one.kept <= one.valid <= one.requested for one in quotas)
    assert sum(one.requested for one in quotas) == sum(source.startswith("synthesize/") for source, _ in places)


@pytest.mark.modes
@pytest.mark.timeout(1800)
def test_synthesis_parents_are_seeds_that_stay(made):
    rows = made.read("prompts", PROMPT).to_pylist()
    seeds = {row["prompt_id"] for row in rows if row["parent_id"] is None}
    assert {row["parent_id"] for row in rows if row["source"].startswith("synthesize/")} <= seeds
    assert all(row["parent_id"] is None for row in rows if not row["source"].startswith("synthesize/"))


@pytest.mark.modes
@pytest.mark.timeout(1800)
def test_synthesis_counter_examples_lack_what_they_say(made):
    output = load_contract(CONTRACT).contract.specialist.task_units[0].output
    rows = [row for row in made.read("prompts", PROMPT).to_pylist() if row["source"] == "synthesize/counter_example"]
    for row in rows:
        assert row["layer"] == "failure_mode"
        assert row["scenario"].removeprefix("missing_") not in {fact.field for fact in removable_facts(row["text"], output)}
    assert rows


@pytest.mark.modes
@pytest.mark.timeout(1800)
def test_synthesis_trace_of_a_synthetic_prompt_shows_its_parent(run, made):
    row = next(row for row in made.read("prompts", PROMPT).to_pylist() if row["source"] == "synthesize/evolve")
    found = json.loads(rayleigh("trace", run, row["prompt_id"], "--json"))
    assert found["parent"]["prompt"]["prompt_id"] == row["parent_id"]
    assert found["parent"]["source"]["source"] == "order_mail/train.jsonl"


@pytest.mark.modes
@pytest.mark.timeout(1800)
def test_synthesis_made_again_pays_nothing_and_gives_the_same_rows(run, made):
    paid = sorted(path.name for path in run.glob("ledger/synthesis/**/*.parquet"))
    Folder(str(run / "prompts")).remove()
    rayleigh("run", CONTRACT, run, "--profile", HERE / "profile.yaml", "--until", "prompts")
    again = load_artifact(Folder(str(run / "prompts")))
    assert again is not None and again.record.tables == made.record.tables
    assert sorted(path.name for path in run.glob("ledger/synthesis/**/*.parquet")) == paid
