"""What of a run a cluster places at once, after it has grown, in part, or never, and the nearest change. Without Ray."""

from itertools import combinations_with_replacement

import pytest
import yaml
from test_capacity import contract
from test_cli import ask

from engine.contract.profile import Pool, Profile, load_profile
from engine.distributed import placement
from engine.distributed.capacity import of_pool, wanted
from engine.distributed.placement import Group, declared, fits_together, nodes_needed, place
from engine.errors import ContractError, InputError
from jobs.commands.check_placement import check_placement, wanted_by_pools


def node(
    cpus: float = 8, gpus: float = 0, *, running: int = 0, most: int = 4, name: str = "node", labels=None, **more: float
) -> Group:
    return Group(name, {"CPU": cpus, "GPU": gpus, **more}, running, most, labels or {})


H100 = {"accelerator_type:H100": 1.0}
# name -> pool of the teacher, training workers (0: none), nodes, state, how many are placed, words of the note
CASES = {
    "fits at once": ({"actors": 2, "gpus": 1}, 0, [node(gpus=4, running=1)], "fits", 2, ""),
    "waits for new nodes": ({"actors": 8, "gpus": 1}, 0, [node(gpus=4)], "waits", 8, "waits for 2 new node"),
    "more GPUs than a node has": ({"gpus": 8}, 0, [node(gpus=4)], "never", 0, "or let gpus be 4 and pipeline 2"),
    "stages lie on two nodes": ({"gpus": 4, "pipeline": 2}, 0, [node(gpus=4)], "waits", 1, "waits for 2 new node"),
    "two large shares of one GPU": ({"actors": 2, "gpus": 0.6}, 0, [node(gpus=1, most=1)], "partly", 1, "nodes node from 1 to 2"),
    "no GPU of the type": ({"gpus": 1, "accelerator": "A100"}, 0, [node(gpus=4, **H100)], "never", 0, "type A100 (found: H100)"),
    "no node with the label": (
        {"labels": {"ray.io/market-type": "spot"}},
        0,
        [node(labels={"ray.io/market-type": "on-demand"})],
        "never",
        0,
        "change teacher.labels",
    ),
    "no such resource": ({"resources": {"licence": 1}}, 0, [node()], "never", 0, "no node has the resource licence"),
    "fewer than wanted": ({"actors": 9, "gpus": 1}, 0, [node(gpus=4, most=2)], "partly", 8, "2 to 3, or lower teacher.actors to 8"),
    "no CPU is left for a task": ({"cpus": 1}, 0, [node(cpus=1, most=1)], "never", 0, "nodes node from 1 to 2"),
    "workers start together": ({}, 4, [node(gpus=1, most=3)], "never", 3, "or lower the student's workers to 3"),
    "workers that fit": ({}, 4, [node(gpus=1, running=4)], "fits", 4, ""),
    "no nodes": ({}, 0, [], "never", 0, "add a group to `nodes` of the profile"),
    "CPUs and GPUs on different nodes": ({"cpus": 16, "gpus": 1}, 0, [node(4, 4), node(32)], "never", 0, "and 1 GPU together"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_placement(name: str):
    raw, workers, groups, state, placed, note = CASES[name]
    pool = Pool.model_validate({"gpus": 1} if workers else raw)
    task = of_pool("job", "one task", Pool(), "cpu")
    wants = (
        [of_pool("job", "student s", pool, "trainer", workers=workers)]
        if workers
        else [of_pool("job", "teacher t", pool, "teacher"), task]
    )
    found = place(wants, groups)
    # of actors that share a node with the task, either can be the one without a place
    worst = max(found, key=lambda one: ("fits", "waits", "partly", "never").index(one.state))
    assert (worst.state, worst.placed) == (state, placed), found
    assert note in worst.note


def test_jobs_of_one_run_do_not_share_the_cluster_and_actors_of_one_job_do():
    one = of_pool("candidates", "teacher t", Pool(actors=4, gpus=1, cpus=1), "teacher")
    groups = [node(gpus=4, running=1, most=1)]
    assert [each.state for each in place([one, one._replace(job="reports")], groups)] == ["fits", "fits"]
    assert [each.placed for each in place([one, one._replace(who="judges")], groups)] == [3, 1]


def test_work_without_gpus_keeps_off_the_nodes_that_have_them():
    wants = [of_pool("job", "teacher t", Pool(actors=2, gpus=1, cpus=4), "teacher"), of_pool("job", "tasks", Pool(actors=8), "cpu")]
    assert nodes_needed(wants, [node(8, 2, name="gpu"), node(8, name="cpu")]) == {"gpu": 1, "cpu": 1}


def never_stuck(sizes: tuple[int, ...], free: tuple[int, ...]) -> bool:
    """Return whether all actors of `sizes` CPUs get a place, whichever comes next and on whichever node with room it is placed."""
    places = [(at, node) for at, size in enumerate(sizes) for node, left in enumerate(free) if left >= size]
    if len({at for at, _ in places}) < len(sizes):
        return False
    return all(
        never_stuck(sizes[:at] + sizes[at + 1 :], tuple(left - sizes[at] * (to == node) for to, left in enumerate(free)))
        for at, node in places
    )


def test_actors_fit_together_only_if_they_do_in_any_order_and_on_any_nodes():
    found = []
    for free in combinations_with_replacement((4, 8, 16), 2):
        for sizes in combinations_with_replacement((2, 4, 8), 3):
            wants = [of_pool("job", str(size), Pool(cpus=size), "evaluator") for size in sizes]
            fits = fits_together(wants, [node(cpus, running=1) for cpus in free])
            assert never_stuck(sizes, free) or not fits, (sizes, free)
            assert fits or len(set(sizes)) > 1 or not never_stuck(sizes, free), (sizes, free)
            found.append(fits)
    assert 10 < sum(found) < len(found) - 10  # both answers


SPLIT = {"gpus": 2, "pipeline": 2}  # a bundle with 1 CPU and 1 GPU, and three with 1 GPU
# name -> pools of one actor each, nodes, whether they fit
TOGETHER = {
    "4, 4 and 8 CPUs on two nodes with 8": ([{"cpus": 4}, {"cpus": 4}, {"cpus": 8}], [node(running=2)], False),
    "and on one node with 16": ([{"cpus": 4}, {"cpus": 4}, {"cpus": 8}], [node(16, running=1), node(running=1)], True),
    "a node that does not run": ([{"cpus": 4}], [node(16)], False),
    "unlike shares of two GPUs": ([{"gpus": 0.6}, {"gpus": 0.4}] * 2, [node(gpus=2, running=1)], False),
    "like shares of two GPUs": ([{"gpus": 0.5}] * 4, [node(gpus=2, running=1)], True),
    "stages on equal nodes": ([SPLIT, SPLIT], [node(gpus=4, running=2)], True),
    "stages that may take the GPUs of the only CPUs": ([SPLIT, SPLIT], [node(2, 2, running=1), node(0, 6, running=1)], False),
    "one label": ([{"cpus": 8, "labels": {"z": "a"}}] * 2, [node(running=1, labels={"z": z}) for z in "ab"], False),
    "two labels": ([{"labels": {"z": z}} for z in "ab"], [node(running=1, labels={"z": z}) for z in "ab"], False),
    "no label of theirs": ([{"cpus": 8}] * 2, [node(running=1, labels={"z": z}) for z in "ab"], True),
}  # fmt: skip


@pytest.mark.parametrize("name", TOGETHER)
def test_actors_that_fit_together(name: str):
    pools, groups, fits = TOGETHER[name]
    wants = [of_pool("job", "engine", Pool.model_validate(pool), "evaluator") for pool in pools]
    assert fits_together(wants, groups) is fits


def test_actors_of_a_large_cluster_are_held_against_it_without_the_words_for_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(placement, "_why", lambda *_: pytest.fail("no one reads why"))
    want = of_pool("job", "student", Pool(cpus=5), "trainer", workers=1000)
    groups = [node(running=1, most=1, labels={"rack": str(at)}) for at in range(1000)]
    assert fits_together([want], groups) and not fits_together([want] * 2, groups)


def test_pools_by_name_are_held_against_the_nodes():
    raw = {
        "name": "p",
        "teachers": {"t1": {"gpus": 8}},
        "trainers": {"s": {"gpus": 9}},
        "nodes": [{"name": "n", "cpus": 8, "gpus": 1}],
    }
    profile = Profile.model_validate(raw)
    found = {one.who: one for one in place(list(wanted(contract(2), profile, ("candidates", "students/s"))), declared(profile))}
    assert found["teacher t0 (teacher)"].state == "waits"
    assert "lower teachers.t1.gpus to 1" in found["teacher t1 (teachers.t1)"].note
    assert "lower trainers.s.gpus to 1" in found["student s (trainers.s)"].note


def test_check_prints_the_table_and_refuses_what_never_fits(tmp_path):
    profile = Profile.model_validate({"name": "p", "nodes": [{"name": "n", "cpus": 8, "max": 2}]})
    text = check_placement(contract(), profile, None)
    assert "waits  candidates  teacher t0 (teacher)" in text and "waits for 1 new n" in text
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("nodes: [{name: small, cpus: 0.5}]")
    with pytest.raises(InputError, match=r"the most is 0.5, of small: lower teacher.cpus to 0.5"):
        check_placement(contract(), profile, str(nodes))
    nodes.write_text(yaml.safe_dump({"nodes": []}))
    with pytest.raises(ContractError, match="nodes"):
        check_placement(contract(), profile, str(nodes))
    with pytest.raises(ContractError, match="declares no nodes"):
        check_placement(contract(), Profile.model_validate({"name": "p", "ray": {"address": "auto"}}), None)


def test_the_type_of_this_machines_gpus_is_asked_for_where_a_pool_wants_one(monkeypatch: pytest.MonkeyPatch):
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    profile = Profile.model_validate({"name": "p", "ray": {"num_cpus": 8}, "teacher": {"accelerator": "H100"}})
    monkeypatch.setattr(NvidiaGPUAcceleratorManager, "get_current_node_accelerator_type", staticmethod(lambda: "H100"))
    assert "NEVER" not in check_placement(contract(), profile, None)
    monkeypatch.setattr(NvidiaGPUAcceleratorManager, "get_current_node_accelerator_type", staticmethod(lambda: None))
    with pytest.raises(InputError, match=r"no node has a GPU of type H100 \(found: none\): change teacher.accelerator"):
        check_placement(contract(), profile, None)


def test_doctor_places_pools_by_name():
    raw = {"name": "p", "teachers": {"t": {"gpus": 9}}, "trainers": {"s": {"gpus": 3}}, "evaluators": {"t": {"gpus": 5}}}
    found = place(wanted_by_pools(Profile.model_validate(raw)), [node(gpus=4, running=1)])
    lost = {one.who for one in found if one.state == "never"}
    assert lost == {"teacher t (teachers.t)", "engine of t (evaluators.t)"}
    assert "one worker of s (trainers.s)" in {one.who for one in found}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"teacher": {"gpus": 1.5}}, "teacher.gpus: found 1.5, expected a fraction of one GPU, or whole GPUs"),
        ({"trainers": {"s": {"gpus": 1, "pipeline": 2}}}, "trainers.s.pipeline: found 2, expected 1"),
        ({"nodes": [{"name": "a", "cpus": 1}, {"name": "a", "cpus": 2}]}, "nodes.1.name: found a a second time"),
        ({"nodes": [{"name": "head", "cpus": 1}]}, "nodes.0.name: found head, which is the group of the head node"),
    ],
)  # fmt: skip
def test_profiles_that_no_cluster_can_follow_are_refused(tmp_path, raw, words):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"name": "p", **raw}))
    with pytest.raises(ContractError) as refused:
        load_profile(path)
    assert words in str(refused.value)


def test_command_places_the_default_contract_on_the_shipped_profiles():
    text = ask("check", "jobs/contracts/smoke.yaml", "--profile", "cluster")
    assert "Placement on the nodes of the profile cluster:" in text and "NEVER" not in text
    assert "Placement on this machine:" in ask("check", "jobs/contracts/smoke.yaml", "--profile", "laptop")


def test_options_of_ray_say_where_an_actor_may_lie():
    from engine.distributed.ray_options import actors, resources  # Ray Data takes two seconds to import

    raw = {"actors": {"min": 2, "max": 8}, "gpus": 1, "accelerator": "H100", "labels": {"a": "b"}, "resources": {"licence": 1}}
    options = actors(Pool.model_validate(raw))
    assert (options["compute"].min_size, options["compute"].max_size) == (2, 8)
    assert (options["accelerator_type"], options["label_selector"], options["resources"]) == ("H100", {"a": "b"}, {"licence": 1})
    assert set(resources(Pool())) == {"num_cpus", "runtime_env"}  # the default pool asks for what it always did
    staged = actors(Pool.model_validate({**raw, "pipeline": 2}))
    assert not {"num_gpus", "accelerator_type", "label_selector", "resources"} & set(staged)


def test_plain_tasks_are_placed_as_their_pool_says(monkeypatch):
    from engine.distributed import task_pool

    class Remote:
        """Returns the options with which a task would start."""

        def options(self, **given):
            self.given = given
            return self

        def remote(self, *arguments):
            return self.given

    monkeypatch.setattr(task_pool, "_remote", lambda op: Remote())
    pool = Pool.model_validate({"cpus": 0.5, "labels": {"a": "b"}, "resources": {"licence": 1}})
    asked = {"num_cpus": 0.5, "label_selector": {"a": "b"}, "resources": {"licence": 1}, "num_returns": 1}
    assert task_pool.TaskPool(pool).start(len, []) == [asked]
    assert task_pool.TaskPool(Pool()).start(len, []) == [{"num_cpus": 1, "num_returns": 1}]


@pytest.mark.parametrize(
    ("found", "words"), [({"min": 3, "max": 2}, "found min 3 above max 2"), ({"least": 1}, "expected a number, or min and max")]
)
def test_range_of_actors_that_is_none_is_refused(found, words):
    with pytest.raises(ValueError, match=words):
        Pool.model_validate({"actors": found})
