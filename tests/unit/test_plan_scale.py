"""`rayleigh plan --rows` without Ray: the pilot is made up, and so are the coefficients, in round numbers."""

import json

import numpy as np
import pyarrow as pa
import pytest
from in_process import InProcess, itself
from test_bench_scale import SIZES, every_stage
from test_cli_plan import ask, toy

from engine.contract.profile import load_profile
from engine.contract.prompts import Copies
from engine.dedup import flow
from engine.dedup.signature import SignedBlock
from engine.prompts import files
from engine.records.scale import Figure, ScalePlan
from jobs import places
from jobs.bench import scale
from jobs.bench.scale_site import text_length
from jobs.commands import dedup_count
from jobs.commands.scale_files import rows_per_block
from jobs.commands.scale_nodes import Need, largest_size, misfits, object_store

__all__ = ["toy"]  # a fixture
GIB = 2**30
ROWS = 10**9


class Counting(InProcess):
    """Counts the references that it returns."""

    def __init__(self):
        self.references = 0

    def start(self, op, *args, returns=1):
        self.references += returns
        return super().start(op, *args, returns=returns)


@pytest.fixture
def coefficients(tmp_path):
    """A file of coefficients: 1 ms of a core and 300 stored bytes a row, and 2 KB a row in one task of each stage."""
    path = tmp_path / "scale.json"
    path.write_text(scale.model_of(scale.summarize(every_stage(SIZES, list_calls=7), 1, 1000.0, None)).model_dump_json())
    return path


def planned(toy, coefficients, *more, rows="1e9", profile="cluster"):
    words = ["--rows", rows, "--profile", profile, "--coefficients", str(coefficients), *more]
    return ScalePlan.model_validate(json.loads(ask(toy, *words, "--json")))


def figures(plan, stage):
    [found] = [each for each in plan.stages if each.name == stage]
    return {name: figure.value for name, figure in found.figures.items()}


def test_tokens_are_those_of_the_pilot_and_the_rest_comes_from_the_lines(toy, coefficients):
    plan = planned(toy, coefficients)
    assert [stage.name for stage in plan.stages] == [
        "prompts", "candidates", "dataset", "tokens", "students/small", "students/large", "reports",
    ]  # fmt: skip
    found = figures(plan, "candidates")
    assert found["tokens"] == 15 * ROWS  # ten in and five out a prompt
    assert found["cpu_hours"] == pytest.approx((15 + ROWS / 1000) / 3600, rel=1e-6)
    assert found["head_bytes"] == 50 * 2**20
    assert figures(plan, "prompts")["list_calls"] == pytest.approx(7)
    assert found["files"] == pytest.approx(6 + ROWS / 5000 * 3, rel=1e-3)  # blocks of 2048 in shards of 5000, not of the benchmark
    assert figures(plan, "students/small")["tokens"] == 15 * 0.75 * ROWS * 3  # three of four prompts, three epochs
    assert figures(plan, "reports")["tokens"] == 0
    assert plan.total["tokens"] == sum(figure for stage in plan.stages if (figure := stage.figures["tokens"].value))
    assert plan.total["task_bytes"] == max(figures(plan, stage)["task_bytes"] for stage in ("prompts", "candidates", "dataset"))


def test_a_limit_of_steps_takes_the_place_of_epochs_and_every_seed_is_a_training(toy, coefficients):
    steps = ["--set", "students.small.max_steps=100", "--set", "students.small.batch_size=4"]
    assert figures(planned(toy, coefficients, *steps), "students/small")["tokens"] == pytest.approx(15 * 100 * 4)
    epochs = figures(planned(toy, coefficients, "--set", "students.small.seeds=3"), "students/small")
    assert epochs["tokens"] == 15 * 0.75 * ROWS * 3 * 3


def test_rounds_that_no_figure_counts_are_named(toy, coefficients):
    rounds = ["--set", "students.small.on_policy={objective: on_policy_kl, teacher: source}"]
    [note] = planned(toy, coefficients, *rounds).notes
    assert note.startswith("In no figure: the samples and scores of the on-policy rounds of students/small")
    assert planned(toy, coefficients).notes == ()


def test_bytes_are_in_proportion_to_the_length_of_the_texts(toy, coefficients):
    found = figures(planned(toy, coefficients), "dataset")
    width = len("two apples" + "2") / text_length()
    assert found["storage_bytes"] == pytest.approx((20_000 + 300 * ROWS) * width, rel=1e-6)
    assert found["shuffled_bytes"] == pytest.approx((5e6 + 900 * ROWS) * width, rel=1e-6)


def test_what_exceeds_the_object_stores_is_spilled(toy, coefficients):
    found = figures(planned(toy, coefficients, profile="laptop", rows="1e8"), "candidates")
    assert found["spilled_bytes"] == pytest.approx(found["shuffled_bytes"] - 0.5 * GIB)


def test_gpu_hours_are_unknown_without_a_speed_and_counted_with_one(toy, coefficients):
    plan = planned(toy, coefficients)
    assert figures(plan, "candidates")["gpu_hours"] is None and figures(plan, "candidates")["money"] is None
    assert plan.total["gpu_hours"] == 0 and any(line.startswith("candidates: gpu_hours") for line in plan.unknown)
    found = figures(planned(toy, coefficients, "--speed", "t=1000"), "candidates")
    hours = 15 * ROWS / 1000 / 3600
    assert found["gpu_hours"] == pytest.approx(hours)
    # a quarter of a node with four GPUs for the teacher, and nodes of 15 CPUs, at 3.6 an hour
    assert found["money"] == pytest.approx((hours / 4 + found["cpu_hours"] / 15) * 3.6)


def test_on_a_profile_without_gpus_no_gpu_is_counted(toy, coefficients):
    found = figures(planned(toy, coefficients, profile="laptop"), "candidates")
    assert found["gpu_hours"] == 0 and found["money"] is None  # of the hours of its engines nothing is known either


@pytest.mark.parametrize("profile", ["laptop", "gpu-node", "cluster"])
def test_no_hours_rest_on_the_pilot_wherever_it_ran(toy, coefficients, profile):
    """Its engines were not full, and its record does not name their GPU."""
    [stage] = [each for each in planned(toy, coefficients, profile=profile).stages if each.name == "candidates"]
    assert stage.figures["money"] == Figure(value=None, basis="not measured: the hours of t; give --speed t=TOKENS")


def test_the_largest_task_is_unknown_where_one_block_was_measured(toy, tmp_path, coefficients):
    path = tmp_path / "small.json"
    path.write_text(scale.model_of(scale.summarize(every_stage((10_000, 100_000)), 1, 1000.0, None)).model_dump_json())
    plan = planned(toy, path)
    [stage] = [each for each in plan.stages if each.name == "dataset"]
    basis = "not measured above one block: both of the largest sizes need 200,000 rows or more"
    assert stage.figures["task_bytes"] == Figure(value=None, basis=basis)
    [other] = [each for each in planned(toy, coefficients).stages if each.name == "dataset"]
    assert "the line through 200,000 and 2,000,000 rows, and 3.8 GiB of a group" in other.figures["task_bytes"].basis
    assert not [misfit for misfit in plan.misfits if misfit.who == "one task"]
    assert any(line.startswith("dataset: ") and "task_bytes" in line for line in plan.unknown)


def test_blocks_of_prompts_are_files_or_eight_mib_of_them(toy, tmp_path):
    """Eleven prompts were read, of the bytes of both files."""
    seeds, held = tmp_path / "seeds.jsonl", (tmp_path / "holdout.jsonl").stat().st_size
    seeds.write_text((json.dumps({"input": "x" * 2000}) + "\n") * 10)
    small = (seeds.stat().st_size + held) / 11
    assert rows_per_block(toy) == pytest.approx(2**23 / small)
    seeds.write_text('{"input": "two apples"}\n' + '{"input": "%s"}\n' % ("x" * 2**24))
    assert rows_per_block(toy) == pytest.approx(11 * seeds.stat().st_size / (seeds.stat().st_size + held))


def test_a_block_is_at_most_128_mib_of_rows_as_they_are_in_memory(toy, tmp_path, coefficients, monkeypatch):
    """However many rows compressed files have: the plan starts no flow of many thousand parts of keys."""
    monkeypatch.setattr(files, "size_of", lambda url: 5)  # eleven rows take ten bytes, so 8 MiB are 8 million rows
    made = []
    start = dedup_count.CountingExecutor.start

    def spy(self, op, *args, returns=1):
        made.append(returns)
        return start(self, op, *args, returns=returns)

    monkeypatch.setattr(dedup_count.CountingExecutor, "start", spy)
    plan = planned(toy, coefficients)
    assert figures(plan, "prompts")["objects"] > 1e6 and sum(made) < 2e7
    (tmp_path / "seeds.jsonl").write_text((json.dumps({"input": "x" * 5000}) + "\n") * 10)
    assert 2**27 / 10_800 < rows_per_block(toy) < 2**27 / 10_200  # text, message, 200 characters of the line, and what is short


@pytest.mark.parametrize(("copies", "bytes_of_row"), [(Copies(), 2_200), (Copies(num_perm=256), 3_957), (None, 450)])
def test_a_group_is_charged_what_it_has_beyond_a_block_so_there_is_no_jump(copies, bytes_of_row):
    sizes = (512 * 1_000, 513 * 1_000, 1_024 * 1_000)
    found = [dedup_count.group_bytes(rows, copies, rows_per_block=1_000) for rows in sizes]
    assert found == pytest.approx([0, bytes_of_row * 1_000 / 512, bytes_of_row * 1_000], rel=0.01)


def test_a_task_that_no_node_holds_is_said_plainly_with_the_size_that_fits(toy, coefficients):
    plan = planned(toy, coefficients)
    [task] = [misfit for misfit in plan.misfits if (misfit.stage, misfit.who) == ("dataset", "one task")]
    a_row = 2000 + 2203.6 / 512  # of the line, and of a group of blocks: there are 512, and a block of 100,000 is in the line
    fixed = 300 * 2**20 - 2203.6 * 100_000
    assert task.needs == pytest.approx(a_row * ROWS + fixed, rel=1e-6) and task.has == pytest.approx(56 * 0.7 * GIB)
    assert task.rows == pytest.approx((task.has - 300 * 2**20) / 2000, rel=0.002)  # below so many rows a group is a block
    text = ask(toy, "--rows", "1e9", "--profile", "cluster", "--coefficients", str(coefficients))
    wanted = (
        "DOES NOT FIT: dataset: one task holds 1.82 TiB at 1G prompts, "
        "a node (cpu), less its object store, of the profile cluster has 39.2 GiB."
    )
    assert wanted in text and "It fits up to 20.9M prompts." in text
    assert "What the numbers rest on:\n  prompts: tokens: no model is asked." in text
    small = planned(toy, coefficients, rows="1e6")
    assert small.misfits == ()


def test_a_profile_without_nodes_is_held_against_nothing_and_says_so(toy, coefficients):
    plan = planned(toy, coefficients, profile="laptop")
    assert plan.misfits == () and "declares no nodes, so no memory is held against it" in plan.notes[0]


def test_plan_of_a_size_answers_nothing_that_plan_has_answered(toy, coefficients):
    ask(toy)
    before = (toy.folder / "plan").files()
    planned(toy, coefficients)
    assert (toy.folder / "plan").files() == before


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--rows", "many"], "--rows: found 'many', expected a whole number"),
        (["--rows", "0"], "--rows: found '0'"), (["--rows", "1.5"], "--rows: found '1.5'"), (["--rows", "inf"], "found 'inf'"),
        (["--rows", "1e9", "--speed", "t"], "--speed: found 't', expected NAME=TOKENS"),
        (["--rows", "1e9", "--speed", "t=-1"], "--speed: found 't=-1'"),
        (["--rows", "1e9", "--speed", "smal=5"], "--speed smal: found no such model, expected one of t, small, large."),
        (["--speed", "t=5"], "--speed is for a plan of --rows N, which is not given"),
        (["--rows", "1e9", "--coefficients", "nowhere.json"], "coefficients: nowhere.json cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_named(toy, words, wanted):
    assert wanted in ask(toy, *words, code=1)


@pytest.mark.parametrize("copies", [Copies(), None])
def test_references_are_counted_as_the_flow_makes_them(copies):
    """Random texts have no copies, so that one round is enough, as in the count."""
    minima = np.random.default_rng(0).integers(0, 2**32 - 2, (400, 128), dtype=np.uint32)
    keys = np.random.default_rng(1).integers(0, 2**64, 400, dtype=np.uint64)
    ids = pa.array([f"{key:016x}" for key in keys])
    rows = pa.table({"id": ids, "batch": np.zeros(400, np.int32), "listed": np.ones(400, bool)})
    blocks = [
        SignedBlock(rows.slice(start, 100), keys[start : start + 100], minima[start : start + 100]) for start in range(0, 400, 100)
    ]
    executor = Counting()
    plan = flow.plan(400, copies, [("id", "ascending")], parts=None if copies else 1)
    found = flow.find_duplicates(flow.compute_signatures(blocks, plan, executor, compute=itself), plan, executor)
    flow.by_block(found, len(blocks), executor)
    assert dedup_count.references(400, copies, rows_per_block=100) == executor.references


@pytest.mark.parametrize("copies", [Copies(), None])
def test_references_grow_with_rows_and_not_with_their_square(copies):
    """Also where blocks are large, so that they are as many as they can be at a billion rows only."""
    for block in (1_000, 100_000, 2_000_000):
        sizes = (5.9e7, 6.1e7, 6e8, 1.2e9, 2.4e9, 4e9, 4.1e9, 4e10, 4e11)
        found = [dedup_count.references(rows, copies, rows_per_block=block) for rows in sizes]
        assert [round(each) for each in found] == sorted(round(each) for each in found)
        assert found[1] < 1.2 * found[0]  # across the size at which the count ends
        assert found[-1] / found[-2] < 10.5
        assert found[-3] / found[-4] < 1.05  # across the last size that is counted


def test_references_between_the_sizes_that_are_counted_are_those_of_the_flow():
    for rows in (90_000_000, 700_000_000):
        blocks, parts, keys = min(512, rows // 100_000), min(256, 1 + rows // 2**21), -(-(1 + rows * 14 // 2**23) // 14) * 14
        once = (
            blocks * (4 + keys) + keys * (2 + parts) + 2 * parts + parts + parts * 2
        )  # signed, buckets, united, verified, resolved
        expected = once + 3 * blocks * parts  # fetched, labelled, by block
        assert dedup_count.references(rows, Copies(), rows_per_block=100_000) == pytest.approx(expected, rel=0.05)


def test_equal_ids_are_searched_in_one_part_of_keys():
    """As the flow of prompts does it: 16 million texts would be in three parts."""
    blocks, rows = 160, 16_000_000
    plan = flow.plan(rows, None, [])
    assert plan.key_parts == 2 and plan.node_parts == 8
    assert dedup_count.references(rows, None, rows_per_block=100_000) == blocks * 5 + blocks * 8 + 8 * 2 + 8 * blocks


def test_pieces_that_become_small_lie_in_the_driver_up_to_ten_mib_a_task():
    """A block of 400 rows has 14 bands of 16 bytes a row: 88 KiB. Groups grow with the parts, so their pieces stay as large."""
    found = [dedup_count.inlined_bytes(rows, Copies(), rows_per_block=400) for rows in (1e5, 1e6, 1e9)]
    assert found == [250 * 400 * 14 * 16, 0, 0]
    assert dedup_count.inlined_bytes(1e9, Copies(), rows_per_block=200) == 0


def test_machines_are_shared_by_the_scarcer_of_cpus_and_gpus():
    profile = load_profile(places.profile_path("cluster"))
    assert profile.machine_share(profile.teacher) == pytest.approx(1 / 4)  # `run` and `plan` price it so, too
    assert profile.machine_share(profile.judge.model_copy(update={"gpus": 0.5, "cpus": 22})) == pytest.approx(1 / 2)
    assert profile.machine_share(profile.teacher.model_copy(update={"gpus": 4, "pipeline": 2})) == 2
    assert profile.machine_share(profile.cpu.model_copy(update={"labels": {"ray.io/node-group": "cpu"}})) == pytest.approx(1 / 15)
    assert profile.machine_share(profile.teacher.model_copy(update={"gpus": 9})) == 1.0  # no node holds it
    laptop = load_profile(places.profile_path("laptop"))
    assert laptop.machine_share(laptop.teacher) == 1 / 2  # both actors are on it
    assert laptop.machine_share(laptop.teacher, blocks=1) == 1
    assert object_store(profile) == pytest.approx((6 * 170 + 5 * 56) * 0.3 * GIB)


def test_the_largest_size_that_fits_is_found_within_a_thousandth():
    assert largest_size(lambda rows: 5 + 2 * rows, 1e9) == pytest.approx(5e8, rel=0.002)
    assert largest_size(lambda rows: 10.0, 5) == 0


def test_a_task_has_what_the_object_store_leaves_of_the_node_that_it_runs_on():
    profile = load_profile(places.profile_path("cluster"))
    need = Need("dataset", "one task", lambda rows: rows * GIB)
    [found] = misfits(profile, [need], 40)
    assert found.has == pytest.approx(56 * 0.7 * GIB) and found.node == "a node (cpu), less its object store,"
    assert misfits(profile, [need], 39) == ()
    [head] = misfits(profile, [need._replace(who="driver")], 17)
    assert head.node == "the head" and head.has == 16 * GIB
