"""The reports job on actors: a random student on vLLM, a teacher by rule, two models that cannot load, two baselines.

The real teacher is examined in test_line.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.records.record import Identity
from engine.release.registry import Package, Registry, default_registry
from engine.rows import CANDIDATE, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, content_id, from_rows
from engine.runs.job import Job, JobContext, run_job
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from jobs.places import models_home
from tests.line.tiny_model import write_tiny

TASK = Path(__file__).parents[2] / "jobs" / "contracts" / "order_mail"
ROWS, TIMED = 12, 4
UNIT = {
    "name": "order",
    "kind": "extraction",
    "instruction": "Fill in the order form.",
    "output": {"json_schema": json.loads((TASK / "order.json").read_text())},
}
STUDENTS = ("tiny", "broken")


def holdout() -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (TASK / "holdout.jsonl").read_text().splitlines()]
    rows = []
    for number, line in enumerate(lines[:: len(lines) // ROWS][:ROWS]):
        about = {key: line[key] for key in ("layer", "difficulty", "language", "reference")} | {"scenario": line["phrasing"]}
        turns = [{"role": "user", "content": line["input"]}]
        rows.append({"prompt_id": content_id(number), "task_unit": "order", "messages": turns, "text": line["input"], **about})
    return rows


FIRST = holdout()[0]["reference"]  # what the teacher says to every prompt: right once
CONTRACT = Contract.model_validate(
    {
        "name": "orders",
        "specialist": {"goal": "Fill in the order form.", "niche": {"answer_above": 0.5}, "task_units": [UNIT]},
        "prompts": {"sources": [{"path": "t", "licence": "CC0-1.0"}], "holdout": {"path": "h", "labels": "rule"}},
        "teachers": {
            "mode": "direct",
            "models": [{"name": "parrot", "model": {"type": "fake", "replies": [FIRST]}, "sampling": {"max_tokens": 64}}],
        },
        "judges": {},
        "students": [{"name": name, "init": {"prune": {"source": "t", "layers": [0]}}, "dtype": "float32"} for name in STUDENTS],
        "evaluation": {
            "baselines": [
                {
                    "type": "rules",
                    "fields": {"order_number": [r"number(?: is)? (\d{5})"], "quantity": [r"\b(\d\d) "], "product": []},
                },
                {"type": "nearest"},
            ],
            "bootstrap": 100,
            "latency_prompts": TIMED,
        },
        "gate": {"exact_match": 0.5, "beats": ["rules"]},
    }
)
PROFILE = Profile.model_validate({"name": "test", "evaluator": {"actors": 6, "batch": 8, "kv_cache_gib": 0.25, "max_num_seqs": 8}})


class World:
    """A run folder up to its reports, with a champion in the registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = holdout()
        prompts = [{"prompt_id": "p", "scenario": rows[0]["scenario"], "text": "x"}]
        self.finish("prompts", {"prompts": from_rows(prompts, PROMPT), "holdout": from_rows(rows, HOLDOUT)})
        self.finish("candidates", {"candidates": CANDIDATE.empty_table()})
        user = {"role": "user", "content": rows[0]["text"]}
        example = {"example_id": "e", "messages": [user], "final": rows[0]["reference"], "split": "train"}
        self.finish("dataset", {"examples": from_rows([example], EXAMPLE), "picked": PICKED.empty_table()})
        write_tiny(folder / "runs/run/students/.building-tiny/model")
        self.finish("students/tiny", {})
        half = {"model/config.json": b'{"model_type": "llama"'}
        self.finish("students/broken", {}, files=half)
        champion = self.finish("students/tiny", {}, files=half, run="earlier")
        package = Package("tiny", champion.fingerprint, {"contract.json": CONTRACT.model_dump_json()})
        self.champion = Registry(default_registry(self.run), "orders").promote(champion, package)

    @property
    def run(self) -> Folder:
        return Folder(str(self.folder / "runs/run"))

    def finish(
        self, name: str, tables: dict[str, Any], *, files: dict[str, bytes] | None = None, run: str = "runs/run"
    ) -> Artifact:
        writer = ArtifactWriter(Folder(str(self.folder / run)) / name)
        for table, rows in tables.items():
            writer.put(table, rows, rows.schema)
        for path, data in (files or {}).items():
            writer.folder.write(path, data)
        return writer.finish(Identity(name, {}, {}, content_id(name, run)), RowCounts(0, {}))

    def report(self) -> Artifact:
        needs = ("prompts", "candidates", "dataset", *(f"students/{name}" for name in STUDENTS))
        job = Job("reports", needs=needs, reads=("specialist", "evaluation", "gate"), run="jobs.steps.reports:run")
        writer = ArtifactWriter(self.run / job.name)
        return run_job(JobContext(job, CONTRACT, PROFILE, str(self.folder), models_home(), self.run, writer))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def reports(world: World, cluster: None) -> Artifact:
    return world.report()


@pytest.fixture(scope="module")
def models(reports: Artifact) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in json.loads(reports.folder.read("report.json"))["models"]}


def test_reports_give_every_model_every_prompt(reports: Artifact) -> None:
    rows = reports.read("predictions", PREDICTION).to_pylist()
    roles = {
        "parrot": "teacher",
        "tiny": "student",
        "broken": "student",
        "champion": "champion",
        "rules": "baseline",
        "nearest": "baseline",
    }
    assert {(row["model"], row["role"]) for row in rows} == set(roles.items())
    assert all(sum(row["model"] == name for row in rows) == ROWS for name in roles)
    assert reports.record.row_counts.rows_in == ROWS * len(roles) == sum(reports.record.row_counts.rows_out.values())
    assert reports.record.row_counts.rows_out["error"] == 2 * ROWS  # the two that do not load
    known = rows[0]["scenario"]  # the only one among the training prompts
    assert all(row["seen"] == (row["scenario"] == known) for row in rows)
    assert {row["seen"] for row in rows} == {True, False}


def test_reports_measure_the_engine(models: dict[str, dict[str, Any]]) -> None:
    found = models["tiny"]
    assert found["latency"]["n"] == TIMED and 0 < found["latency"]["p50_ms"] <= found["latency"]["p95_ms"]
    assert found["tokens_per_second"] > 0 and found["memory_mib"] > 200
    assert found["metrics"]["ece"]["n"] == ROWS  # every answer has a confidence
    assert found["layers"] == 2 and 3_000_000 < found["parameters"] < 3_500_000


def test_reports_compare_what_was_answered(models: dict[str, dict[str, Any]]) -> None:
    once = pytest.approx(1 / ROWS)
    exact = {name: model["metrics"]["exact_match"]["value"] for name, model in models.items()}
    assert exact["parrot"] == exact["nearest"] == once  # the teacher's one phrase; the one prompt that was learnt
    assert exact["tiny"] == exact["broken"] == exact["champion"] == 0
    assert models["tiny"]["against_teacher"]["difference"]["value"] == -models["parrot"]["metrics"]["exact_match"]["value"]
    assert models["rules"]["metrics"]["schema_validity"]["value"] == 1


def test_reports_are_not_voided_by_a_student_that_does_not_load(reports: Artifact, models: dict[str, dict[str, Any]]) -> None:
    report = json.loads(reports.folder.read("report.json"))
    assert "config.json or its weights cannot be read" in models["broken"]["error"]
    assert report["findings"][0].startswith("broken could not be evaluated: model ")
    assert report["gate"]["refusals"]["broken"][0]["number"] == "examined"
    assert report["gate"]["winner"] is None


def test_reports_name_the_champion_as_a_fact_and_not_as_identity(world: World, reports: Artifact) -> None:
    assert reports.record.metrics["champion"]["id"] == world.champion.id
    assert world.champion.id not in json.dumps([reports.record.recipe, reports.record.inputs])
    assert reports.folder.read("index.html").startswith(b"<!")
