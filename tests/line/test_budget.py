"""A pilot, then a run whose cap stops two actors at work, then the same with a higher cap: nothing is paid twice."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from engine.contract.profile import Profile
from engine.inference.token_budget import TEACHER_TOKENS, TokenUsage, usage_in
from engine.records.plan import PlanReport
from engine.rows import CANDIDATE
from engine.runs.job import run_job
from jobs.commands import plan
from tests.line import data_world as world

PROMPTS, DRAWN, BATCH, ACTORS, SAMPLES = 60, 6, 4, 2, 2
PROFILE = {"name": "small", "ray": {"num_cpus": 8}, "teacher": {"actors": ACTORS, "batch": BATCH}}
TEACHER = {"name": "t", "model": {"type": "fake"}, "sampling": {"n": SAMPLES, "temperature": 0.7, "max_tokens": 500}}


@dataclasses.dataclass
class Story:
    """What was planned, the rows of the capped run and of the whole, and what was paid after each."""

    plan: PlanReport
    cap: int
    capped: list[dict[str, Any]]
    whole: list[dict[str, Any]]
    paid: list[TokenUsage]


def order(cap: int | None) -> dict[str, Any]:
    teachers = {"mode": "direct", "models": [TEACHER]}
    students = [{"name": "s", "init": {"prune": {"source": "smollm2-135m-instruct", "layers": [0]}}}]
    return {
        **world.CONTRACT,
        "teachers": teachers,
        "students": students,
        "budget": {"teacher_tokens": cap},
        "curation": {"semantic": None},
    }


def candidates(folder: Path, cap: int) -> list[dict[str, Any]]:
    context = world.context(folder, "candidates", world.contract(**order(cap)))
    artifact = run_job(dataclasses.replace(context, profile=Profile.model_validate(PROFILE)))
    return artifact.read("candidates", CANDIDATE).to_pylist()


def write(folder: Path) -> None:
    world.write_jsonl(folder / "seeds.jsonl", [{"input": text} for text in world.mails(PROMPTS)])
    world.write_jsonl(folder / "holdout.jsonl", [{"input": "We need 3 red kites.", "reference": "{}"}])
    (folder / "order.yaml").write_text(json.dumps(order(None)))
    (folder / "profile.yaml").write_text(json.dumps(PROFILE))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Story:
    folder = tmp_path_factory.mktemp("budget")
    write(folder)
    budget = world.context(folder, "candidates", world.contract()).ledger / TEACHER_TOKENS
    where, profile = str(folder / "order.yaml"), str(folder / "profile.yaml")
    planned = plan.plan(where, str(folder / "run"), pilot=DRAWN, profile=profile, changes=[])
    paid = [usage_in(budget)["t"]]
    cap = 4 * paid[0].tokens
    capped = candidates(folder, cap)
    paid.append(usage_in(budget)["t"])
    whole = candidates(folder, 100 * cap)
    paid.append(usage_in(budget)["t"])
    return Story(planned, cap, capped, whole, paid)


def tokens(rows: list[dict[str, Any]]) -> int:
    return sum(row["tokens_in"] + row["tokens_out"] for row in rows)


def test_cap_stops_all_actors_and_every_prompt_is_accounted_for(story: Story) -> None:
    asked = {row["prompt_id"] for row in story.capped if row["finish_reason"] == "stop"}
    budget_exhausted = {row["prompt_id"] for row in story.capped if row["finish_reason"] == "budget_exhausted"}
    assert asked and budget_exhausted and not asked & budget_exhausted and len(asked | budget_exhausted) == PROMPTS
    assert len(story.capped) == PROMPTS * SAMPLES
    assert {row["pool"] for row in story.capped if row["finish_reason"] == "budget_exhausted"} == {"failure"}


def test_what_is_paid_above_the_cap_was_in_flight(story: Story) -> None:
    longest = max(row["tokens_in"] + row["tokens_out"] for row in story.whole)
    assert story.cap <= story.paid[1].tokens < story.cap + ACTORS * BATCH * SAMPLES * longest


def test_raised_cap_pays_for_the_rest_alone(story: Story) -> None:
    assert {row["finish_reason"] for row in story.whole} == {"stop"}
    assert story.paid[2] == TokenUsage(
        PROMPTS * SAMPLES, *(sum(row[name] for row in story.whole) for name in ("tokens_in", "tokens_out"))
    )


def test_pilot_asks_the_drawn_prompts_only_and_its_answers_are_used(story: Story) -> None:
    assert story.paid[0].answers == DRAWN * SAMPLES == story.plan.pilot.answers
    assert story.plan.pilot.of == PROMPTS and story.plan.pilot.tokens == story.paid[0].tokens


def test_plan_holds_what_it_then_took(story: Story) -> None:
    jobs = {job.name: job for job in story.plan.jobs}
    assert jobs["candidates"].rows.value == PROMPTS * SAMPLES
    for name in ("tokens_in", "tokens_out"):
        found, took = getattr(jobs["candidates"], name), sum(row[name] for row in story.whole)
        assert found.low <= took <= found.high
    assert plan.as_text(story.plan, "order.yaml").count("\ncandidates ") == 1
