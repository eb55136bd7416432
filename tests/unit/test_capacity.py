"""What a run needs at the same time against what a cluster has, without Ray."""

from pathlib import Path

import pytest

from engine.contract.contract import Contract
from engine.contract.profile import Profile, load_profile
from engine.distributed.capacity import wanted
from engine.distributed.placement import Group, Placement, place

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


def found(profile: Profile, *nodes: dict[str, float], teachers: int = 1, jobs: tuple[str, ...] = JOBS) -> list[Placement]:
    """Return what has no place on `nodes`."""
    groups = [Group("node", node, 1, 1, is_fixed=True) for node in nodes]
    return [one for one in place(list(wanted(contract(teachers), profile, jobs)), groups) if one.state != "fits"]


def test_two_teachers_that_want_nine_gpus_of_eight_are_named() -> None:
    node = {"CPU": 64.0, "GPU": 8.0, "memory": 1e9}
    profile = load_profile(PROFILES / "gpu-node.yaml")
    assert found(profile, node) == []
    lost = found(profile, node, teachers=2)
    assert {(one.job, one.who, one.placed, one.actors) for one in lost} == {("candidates", "teacher t1 (teacher)", 3, 4)}
    assert lost[0].note == "3 of 4 find room: lower teacher.actors to 3"
    assert found(profile, node, teachers=2, jobs=("students/s", "reports")) == []  # the candidates are finished


def test_what_sums_of_cpus_and_gpus_do_not_show_is_found() -> None:
    node = {"CPU": 64.0, "GPU": 3.0, "accelerator_type:L4": 1.0}

    def lost(workers: int = 1, **pools: dict[str, object]) -> list[str]:
        profile = Profile.model_validate({"name": "p", **pools})
        order = contract(workers=workers)
        wants = list(wanted(order, profile, ("candidates", "students/s")))
        return [one.note for one in place(wants, [Group("node", node, 1, 1, is_fixed=True)]) if one.state != "fits"]

    assert lost() == []
    assert lost(workers=4, trainer={"gpus": 0.6}) == ["3 of 4 find room: lower the student's workers to 3"]
    assert "type H100 (found: L4)" in lost(teacher={"gpus": 1, "accelerator": "H100"})[0]
    assert "label zone=a" in lost(judge={"labels": {"zone": "a"}})[0]
    assert "resource licence" in lost(teacher={"resources": {"licence": 1}})[0]


def test_every_consumer_of_a_pool_is_counted() -> None:
    raw = contract().model_dump(mode="json", exclude_none=True)
    fake = {"type": "fake"}
    raw["prompts"]["synthesize"] = [{"method": {"type": "paraphrase"}, "wanted": 2, "model": fake}]
    raw["teachers"] |= {"mode": "experts", "routes": [{"nearest": {"bank": [{"input": "a", "to": ["t0"]}]}}]}
    raw["curation"]["contrastive"] = [{"type": "rewrite", "model": fake, "checks": [{"type": "json_schema"}]}]
    raw["students"][0]["on_policy"] = {"objective": "on_policy_kl", "teacher": "t0"}
    profile = Profile.model_validate({"name": "p", "teachers": {"t0": {"gpus": 2}}})
    jobs = ("prompts", "candidates", "dataset", "students/s")
    held = {(one.job, one.who, one.phase) for one in wanted(Contract.model_validate(raw), profile, jobs)}
    assert {
        ("prompts", "synthesis (teacher)", ""),
        ("candidates", "routes to teachers (embedder)", ""),
        ("dataset", "rewriting (teacher)", "rewriting"),
        ("students/s", "samples of its rounds (teacher)", "samples"),
        ("students/s", "scores of its rounds (teachers.t0)", "scores"),
    } <= held
    assert not any(one.phase or one.job == "prompts" for one in wanted(contract(), profile, jobs))


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
        ("capture", "one teacher after the other (teachers.t1)", 8),
        ("students/s", "samples of its rounds (teacher)", 1),
        ("students/s", "scores of its rounds (teachers.t1)", 8),
    ]
    nodes = {gpus: [Group("node", {"CPU": 8.0, "GPU": gpus}, 1, 1)] for gpus in (8.0, 7.0)}
    assert {one.state for one in place(wants, nodes[8.0])} == {"fits"}  # the two are never loaded together
    lost = [one.who for one in place(wants, nodes[7.0]) if one.state == "never"]
    assert len(lost) == 2 and all("teachers.t1" in who for who in lost)


def test_the_laptop_runs_what_it_ran() -> None:
    assert found(load_profile(PROFILES / "laptop.yaml"), {"CPU": 12.0}, teachers=3) == []


def test_an_engine_of_one_node_does_not_span_two_but_its_stages_do() -> None:
    halves = {"CPU": 32.0, "GPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}
    wide = Profile.model_validate({"name": "p", "teacher": {"gpus": 8, "cpus": 2}})
    assert [one.note for one in found(wide, *halves)] == [
        "no node has 8 GPU; the most is 4, of node: lower teacher.gpus to 4; or let gpus be 4 and pipeline 2"
    ]
    staged = Profile.model_validate({"name": "p", "teacher": {"gpus": 4, "pipeline": 2, "cpus": 2}})
    assert found(staged, *halves) == []


@pytest.mark.parametrize(("jobs", "who"), [(("reports",), "one engine"), (("students/s",), "student s")])
def test_one_engine_or_training_that_fits_nowhere_is_named(jobs: tuple[str, ...], who: str) -> None:
    profile = Profile.model_validate({"name": "p", "evaluator": {"gpus": 1}, "trainer": {"gpus": 1}})
    assert [one.state for one in found(profile, {"CPU": 8.0}, jobs=jobs) if who in one.who] == ["never"]


def test_engine_of_a_large_teacher_is_held_against_the_cluster_in_reports() -> None:
    staged = {"gpus": 8, "pipeline": 2, "cpus": 2}
    profile = Profile.model_validate({"name": "p", "evaluator": {"gpus": 1}, "evaluators": {"t0": staged, "other": {"gpus": 99}}})
    nodes = [{"CPU": 8.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 8.0}]
    assert found(profile, *nodes, jobs=("reports",)) == []
    [lost] = found(profile, nodes[0], jobs=("reports",))
    assert (lost.who, lost.each, lost.state) == ("one engine (evaluators.t0)", "2 CPU and 16 GPU", "never")
