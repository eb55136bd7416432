"""What a run needs at the same time against what a cluster has, without Ray."""

from pathlib import Path

import pytest

from engine.contract.contract import Contract
from engine.contract.profile import Profile, load_profile
from engine.distributed.capacity import shortfalls, wanted

PROFILES = Path(__file__).parents[2] / "cluster" / "profiles"
JOBS = ("prompts", "candidates", "dataset", "students/s", "reports")


def contract(teachers: int = 1, workers: int = 1, mode: str = "judged") -> Contract:
    models = [{"name": f"t{number}", "model": {"type": "fake"}} for number in range(teachers)]
    rubric = {"name": "j", "model": {"type": "fake"}, "system": "Judge.", "question": "{text} {answer}"}
    student = {"name": "s", "init": {"prune": {"source": "m", "layers": [0]}}, "workers": workers}
    return Contract.model_validate(
        {
            "name": "toy",
            "specialist": {"goal": "count", "task_units": [{"name": "count", "kind": "decision"}]},
            "prompts": {"sources": [{"path": "a", "licence": "x"}], "holdout": {"path": "b", "labels": "rule"}},
            "teachers": {"mode": mode, "models": models},
            "judges": {"rubrics": [rubric]},
            "students": [student],
            "gate": {},
        }
    )


def found(profile: Profile, *nodes: dict[str, float], teachers: int = 1, jobs: tuple[str, ...] = JOBS) -> list[str]:
    return shortfalls(list(wanted(contract(teachers), profile, jobs)), nodes)


def test_two_teachers_that_want_nine_gpus_of_eight_are_named() -> None:
    node = {"CPU": 64.0, "GPU": 8.0, "memory": 1e9}
    profile = load_profile(PROFILES / "gpu-node.yaml")
    assert found(profile, node) == []
    assert found(profile, node, teachers=2) == [
        "candidates needs 21 CPU and 9 GPU at the same time; the cluster has 64 CPU and 8 GPU:",
        "  teacher t0 (teacher): 4 x 2 CPU and 1 GPU",
        "  teacher t1 (teacher): 4 x 2 CPU and 1 GPU",
        "  judges and checks (judge): 2 x 2 CPU and 0.5 GPU",
        "  one task (cpu): 1 x 1 CPU",
    ]
    assert found(profile, node, teachers=2, jobs=("students/s", "reports")) == []  # the candidates are finished


def test_checks_alone_hold_no_actor() -> None:
    profile = Profile.model_validate({"name": "p", "judge": {"gpus": 1}})
    wants = {mode: [one.who for one in wanted(contract(mode=mode), profile, ["candidates"])] for mode in ("judged", "direct")}
    assert set(wants["judged"]) - set(wants["direct"]) == {"judges and checks (judge)"}


def test_what_checks_in_processes_and_what_scores_is_counted() -> None:
    profile = Profile.model_validate({"name": "p", "judge": {"gpus": 1}, "cpu": {"actors": 3}})

    def held(**judges: object) -> set[str]:
        order = contract(mode="direct").model_dump(mode="json", exclude_none=True)
        changed = Contract.model_validate(order | {"judges": order["judges"] | judges})
        return {f"{one.actors} {one.who}" for one in wanted(changed, profile, ["candidates"])} - {"1 teacher t0 (teacher)"}

    assert held() == {"1 one task (cpu)"}
    assert held(checks=[{"type": "math", "reference": {"value": "3"}}]) == {"1 judges and checks (judge)", "1 one task (cpu)"}
    assert held(signals={"model": {"type": "fake"}, "quality": {}}) == {"1 signals (judge)", "1 one task (cpu)"}
    assert held(signals={"density": True}) == {"3 signals (cpu)", "1 one task (cpu)"}


def test_teachers_that_score_hold_their_own_pools_one_after_the_other() -> None:
    order = contract(teachers=3).model_dump(mode="json", exclude_none=True)
    student = order["students"][0] | {"on_policy": {"objective": "on_policy_kl", "teacher": "t1"}}
    changed = Contract.model_validate(order | {"capture": {"teachers": ["t0", "t1"]}, "students": [student]})
    profile = Profile.model_validate({"name": "p", "teacher": {"gpus": 1}, "teachers": {"t1": {"gpus": 8}, "t2": {"gpus": 99}}})
    wants = list(wanted(changed, profile, ["capture", "students/s"]))
    assert [(one.job, one.who, one.bundles[0]["GPU"]) for one in wants if one.bundles[0]["GPU"]] == [
        ("capture", "one teacher after the other (teacher)", 1),
        ("capture by t1", "one teacher after the other (teachers.t1)", 8),
        ("students/s by t1", "one teacher after the other (teachers.t1)", 8),
    ]
    assert shortfalls(wants, [{"CPU": 8.0, "GPU": 8.0}]) == []
    assert "capture by t1 needs 2 CPU and 8 GPU at the same time" in shortfalls(wants, [{"CPU": 8.0, "GPU": 7.0}])[0]


def test_the_laptop_runs_what_it_ran() -> None:
    assert found(load_profile(PROFILES / "laptop.yaml"), {"CPU": 12.0}, teachers=3) == []


def test_an_engine_of_one_node_does_not_span_two_but_its_stages_do() -> None:
    halves = {"CPU": 32.0, "GPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}
    wide = Profile.model_validate({"name": "p", "teacher": {"gpus": 8, "cpus": 2}})
    assert any("1 x 2 CPU and 8 GPU, which no single node has" in line for line in found(wide, *halves))
    staged = Profile.model_validate({"name": "p", "teacher": {"gpus": 4, "pipeline": 2, "cpus": 2}})
    assert found(staged, *halves) == []


@pytest.mark.parametrize(("jobs", "who"), [(("reports",), "one engine"), (("students/s",), "student s")])
def test_one_engine_or_training_that_fits_nowhere_is_named(jobs: tuple[str, ...], who: str) -> None:
    profile = Profile.model_validate({"name": "p", "evaluator": {"gpus": 1}, "trainer": {"gpus": 1}})
    assert any(who in line for line in found(profile, {"CPU": 8.0}, jobs=jobs))


def test_engine_of_a_large_teacher_is_held_against_the_cluster_in_reports() -> None:
    staged = {"gpus": 8, "pipeline": 2, "cpus": 2}
    profile = Profile.model_validate({"name": "p", "evaluator": {"gpus": 1}, "evaluators": {"t0": staged, "other": {"gpus": 99}}})
    nodes = [{"CPU": 8.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 8.0}]
    assert found(profile, *nodes, jobs=("reports",)) == []
    assert found(profile, nodes[0], jobs=("reports",)) == [
        "reports needs 2 CPU and 16 GPU at the same time; the cluster has 8 CPU and 8 GPU:",
        "  one engine (evaluators.t0): 1 x 2 CPU and 16 GPU",
    ]
