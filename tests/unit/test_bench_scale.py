"""`rayleigh bench scale` without Ray: lines, growth, the check of the cost model, its files, and the counter of listings."""

import json
import subprocess
import types
from contextlib import nullcontext

import pytest
from typer.testing import CliRunner

from engine.contract.profile import Pool
from engine.errors import InputError, MachineError
from engine.records.scale import Line, ScaleModel, StageUse
from jobs.bench import raylets, scale
from jobs.bench.list_calls import ListingCounter
from jobs.bench.scale_stage import STAGES, kind_of
from jobs.bench.scale_text import as_text
from jobs.bench.watch import CommandFailed
from jobs.cli import app
from jobs.commands.scale_files import NamedModel, load_model
from jobs.commands.scale_fit import FITTED, NOISE, Work, fit, growth, value, work_of

MIB = 2**20
SIZES = (10_000, 200_000, 2_000_000)


def use(rows, stage="dataset", **changes):
    """What a stage takes whose sums grow with rows, whose driver is constant, and one task of which holds 2 KB a row."""
    blocks, batches = rows // 2000, rows // 50
    taken = {
        "seconds": 20.0, "cpu_seconds": 15 + rows / 1000, "rows_per_core": 900.0, "shuffled_bytes": 5_000_000 + 900 * rows,
        "spilled_bytes": 0, "objects": 40 + 3 * blocks, "references": 20 + 2 * blocks, "storage_bytes": 20_000 + 300 * rows,
        "files": 6 + blocks, "list_calls": None, "driver_bytes": 260 * MIB, "head_bytes": 50 * MIB,
        "task_bytes": 300 * MIB + (stage != "candidates") * 2000 * rows, "largest_task": "MapBatches(_save)",
    }  # fmt: skip
    return StageUse(stage=stage, rows=rows, **{"blocks": blocks, "batches": batches} | taken | changes)


def every_stage(sizes=SIZES, **changes):
    return [use(rows, stage, **changes) for rows in sizes for stage in STAGES]


def test_lines_are_those_by_which_the_numbers_were_made():
    lines = fit([use(rows) for rows in SIZES]).lines
    assert set(lines) == set(FITTED) - {"list_calls"}
    assert (lines["cpu_seconds"].fixed, lines["cpu_seconds"].row) == pytest.approx((15, 1e-3), rel=1e-6)
    assert value(lines["shuffled_bytes"], Work(1e9, 0, 0)) == pytest.approx(5e6 + 9e11, rel=1e-6)
    assert lines["task_bytes"].row == pytest.approx(2000)


def test_sizes_below_the_last_decade_do_not_bend_a_line():
    """They are start-up for the most part."""
    small = [use(rows, cpu_seconds=1.0) for rows in (1_000, 3_000)]
    line = fit([*small, *(use(rows) for rows in (100_000, 300_000, 1_000_000))]).lines["cpu_seconds"]
    assert (line.fixed, line.row) == pytest.approx((15, 1e-3), rel=1e-6)
    far = fit([use(1_000), use(100_000, cpu_seconds=15 + 99 * 2)]).lines["cpu_seconds"]  # two sizes make a line in any case
    assert far.row == pytest.approx((15 + 198 - 16) / 99_000, rel=1e-6)


def test_counts_of_candidates_follow_blocks_and_not_rows():
    measured = [use(10_000, "candidates", blocks=40, files=86), use(100_000, "candidates", blocks=50, files=106)]
    files = fit(measured).lines["files"]
    assert (files.fixed, files.row, files.block) == pytest.approx((6, 0, 2), rel=1e-6)
    assert fit([use(10_000), use(100_000)]).lines["files"].row > 0


def test_listings_of_candidates_are_of_blocks_and_batches():
    """Three for each batch, whose file is merged away, and two for each block."""
    sizes = [(1_000, 20, 20), (10_000, 34, 204)]
    measured = [
        use(rows, "candidates", blocks=blocks, batches=batches, list_calls=2 * blocks + 3 * batches)
        for rows, blocks, batches in sizes
    ]
    found = fit(measured).lines["list_calls"]
    assert (found.fixed, found.block, found.batch) == pytest.approx((0, 2, 3), rel=1e-6)


def test_blocks_and_batches_are_cut_from_shards():
    pool = Pool(batch=50)
    assert pool.block(100_000) == 2000
    assert work_of(100_000, pool, shard_rows=5_000) == Work(100_000, 20 * 3, 20 * 100)
    assert work_of(5_010, pool, shard_rows=5_000, answers=2).blocks == 5_000 // 150 + 1 + 1
    assert work_of(10_000, Pool(batch=1024), shard_rows=5_000).batches == 2 * 5


def test_memory_that_did_not_grow_names_the_growth_that_would_not_have_been_seen():
    driver = fit([use(rows, driver_bytes=260 * MIB + rows) for rows in SIZES]).lines["driver_bytes"]
    assert driver == Line(fixed=260 * MIB + SIZES[-1], unseen=NOISE / (SIZES[-1] - SIZES[-2]))


def test_memory_is_the_line_through_the_two_largest_sizes():
    """Small sizes have smaller blocks, so that the first step would look as if memory grew."""
    peaks = {10_000: 200 * MIB, 200_000: 600 * MIB, 1_000_000: 601 * MIB}
    task = fit([use(rows, task_bytes=peak) for rows, peak in peaks.items()]).lines["task_bytes"]
    assert (task.fixed, task.row) == (601 * MIB, 0)


def test_a_task_of_candidates_holds_one_block_at_any_size():
    task = fit([use(rows, "candidates", task_bytes=300 * MIB + 200 * rows) for rows in SIZES]).lines["task_bytes"]
    assert task == Line(fixed=300 * MIB + 200 * SIZES[-1])


@pytest.mark.parametrize(("stage", "smaller"), [("prompts", 63_999), ("dataset", 100_000), ("dataset", 199_999)])
def test_the_growth_of_one_block_is_no_line_of_memory(stage, smaller):
    lines = fit([use(rows, stage) for rows in (10_000, smaller, 300_000)]).lines
    assert "task_bytes" not in lines and lines["storage_bytes"].row > 0 and "driver_bytes" in lines
    assert "task_bytes" in fit([use(rows, stage) for rows in (10_000, 200_000, 300_000)]).lines


def test_one_size_is_no_line():
    with pytest.raises(ValueError, match="two sizes"):
        fit([use(10_000), use(10_000)])


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ({"files": 10}, {"files": 10}, "constant"), ({"files": 10}, {"files": 30}, "slower than rows"),
        ({"files": 10}, {"files": 98}, "with rows"), ({"files": 10}, {"files": 1000}, "faster than rows"),
        ({"files": 0}, {"files": 0}, "none"), ({"files": 0}, {"files": 5}, "faster than rows"),
    ],
)  # fmt: skip
def test_growth_has_a_word_for_each_power_of_rows(before, after, verdict):
    found = growth(use(10_000, **before), use(100_000, **after), "files")
    assert found and found.verdict == verdict


def test_growth_of_memory_within_the_noise_is_none():
    small, large = use(10_000, driver_bytes=9 * MIB), use(100_000, driver_bytes=16 * MIB)
    found = growth(small, large, "driver_bytes")
    assert found and (found.verdict, round(found.ratio, 2)) == ("constant", 1.78)
    assert growth(small, large, "list_calls") is None


def test_the_model_of_smaller_sizes_and_the_shipped_one_are_held_against_each_size():
    uses = every_stage()
    shipped = scale.model_of(scale.summarize(uses, 1, 1600.0, None))
    doubled = [each.model_copy(update={"cpu_seconds": 2 * each.cpu_seconds}) for each in uses]
    checks = scale.summarize(doubled, 1, 1600.0, NamedModel("scale.json", shipped)).checks
    smaller = [check for check in checks if check.model == "smaller sizes"]
    assert {check.rows for check in smaller} == {SIZES[-1]} and all(abs(check.error) < 0.01 for check in smaller)
    held = {(check.stage, check.rows): check.error for check in checks if check.model == "scale.json" and "cpu" in check.quantity}
    assert set(held) == {(stage, rows) for stage in STAGES for rows in SIZES}
    assert set(held.values()) == {-0.5}


def test_text_shows_growth_and_errors_beyond_the_aim():
    late = [each.model_copy(update={"files": 2 * each.files}) if each.rows == SIZES[-1] else each for each in every_stage()]
    text = as_text(scale.summarize(late, 2, 1600.0, None))
    assert text.startswith("2 raylets")
    assert "x19: faster than rows" in text
    lines = [line for line in text.splitlines() if "beyond 20 %" in line]
    assert len(lines) == len(STAGES) and all("files" in line and "-50 %" in line for line in lines)


def test_what_was_not_there_at_the_smaller_size_has_no_ratio_in_json():
    spilling = [each.model_copy(update={"spilled_bytes": each.rows}) if each.rows == SIZES[-1] else each for each in every_stage()]
    result = scale.summarize(spilling, 1, 1600.0, None)
    again = scale.ScaleBench.model_validate_json(result.model_dump_json())
    assert again == result and "from none: faster than rows" in as_text(again)


def test_coefficients_of_one_size_are_refused_before_anything_runs(tmp_path):
    out = tmp_path / "scale.json"
    done = CliRunner().invoke(app, ["bench", "scale", "--rows", "1000", "--out", str(out)])
    assert done.exit_code == 1 and "coefficients need two sizes, found 1" in done.stderr and not out.exists()


def test_a_file_that_could_not_be_written_is_refused_before_anything_runs(tmp_path):
    words = ["bench", "scale", "--rows", "1000", "--rows", "2000", "--out", str(tmp_path / "none" / "scale.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "none/scale.json cannot be written: No such file or directory" in done.stderr


def invoke_measured(tmp_path, monkeypatch, *more, fails=0):
    """Run the command with made sizes instead of Ray, of which `fails` breaks."""
    order = []

    def measured(rows, *_):
        order.append(rows)
        if rows == fails:
            raise subprocess.CalledProcessError(1, "run")
        return [use(rows, stage) for stage in STAGES]

    monkeypatch.setattr(scale, "start_raylets", lambda *_: nullcontext(types.SimpleNamespace(address="here")))
    monkeypatch.setattr(scale, "reference_bytes", lambda address: order.append(address) or 1600.0)
    monkeypatch.setattr(scale, "_measure", measured)
    return CliRunner().invoke(app, ["bench", "scale", *more]), order


def test_what_was_measured_before_a_size_failed_is_kept_and_goes_on(tmp_path, monkeypatch):
    out, sizes = tmp_path / "scale.json", tmp_path / "scale.sizes.json"
    words = ["--rows", "200000", "--rows", "300000", "--rows", "400000", "--out", str(out)]
    done, order = invoke_measured(tmp_path, monkeypatch, *words, fails=400_000)
    assert done.exit_code and order == ["here", 200_000, 300_000, 400_000]
    assert load_model(str(out)).model.sizes == (200_000, 300_000)
    done, order = invoke_measured(tmp_path, monkeypatch, "--rows", "400000", "--with", str(sizes), "--out", str(out))
    assert done.exit_code == 0 and order == ["here", 400_000]
    assert load_model(str(out)).model.sizes == (200_000, 300_000, 400_000)


def test_a_stage_is_a_line_on_stderr_once_it_is_measured(monkeypatch):
    """The next one may take an hour, and fail; the command then says why."""

    def run_stage(site, stage, rows, raylets, *, profile):
        if stage == "dataset":
            raise CommandFailed(["rayleigh", "run"], 1, "the disk is full")
        return use(rows, stage)

    monkeypatch.setattr(scale, "start_raylets", lambda *_: nullcontext(types.SimpleNamespace(address="here")))
    monkeypatch.setattr(scale, "reference_bytes", lambda address: 1600.0)
    monkeypatch.setattr(scale, "write_site", lambda site, rows: None)
    monkeypatch.setattr(scale, "run_stage", run_stage)
    done = CliRunner().invoke(app, ["bench", "scale", "--rows", "1000", "--list-rows", "0"])
    *stages, _, said, why = done.stderr.splitlines()
    assert [StageUse.model_validate_json(line) for line in stages] == [use(1000, stage) for stage in STAGES[:2]]
    assert done.exit_code == 1 and said == "ended with exit code 1. Its last lines:" and why == "the disk is full"


class Node:
    """Stands for a raylet that does not answer the first `silent` questions."""

    def __init__(self, silent):
        self.silent = silent

    def ask(self, *_, **__):
        import grpc

        self.silent -= 1
        if self.silent >= 0:
            raise grpc.RpcError
        stats = {
            "cumulative_created_objects": 3,
            "cumulative_created_bytes": 50,
            "restored_bytes_total": 10,
            "spilled_bytes_total": 7,
        }
        return types.SimpleNamespace(store_stats=types.SimpleNamespace(**stats))


@pytest.mark.parametrize(("silent", "count"), [(5, 1), (10**6, 1), (0, 2)])
def test_counters_are_of_all_raylets_or_none(monkeypatch, silent, count):
    import ray._private.internal_api

    table = [{"Alive": True, "NodeManagerAddress": "a", "NodeManagerPort": 1}]
    cluster = types.SimpleNamespace(global_state=types.SimpleNamespace(node_table=lambda: table))
    monkeypatch.setattr(ray._private.internal_api, "node_stats", Node(silent).ask)
    monkeypatch.setattr(raylets.time, "sleep", lambda seconds: None)
    if silent == 5:
        assert raylets.Raylets(cluster, count).counters() == (3, 40, 7)
    else:
        with pytest.raises(MachineError, match=f"of {count} raylets answered"):
            raylets.Raylets(cluster, count).counters()


def test_a_profile_that_joins_a_cluster_is_refused():
    done = CliRunner().invoke(app, ["bench", "scale", "--profile", "cluster"])
    assert done.exit_code == 1 and "ray.address is 'auto', expected `local`" in done.stderr


@pytest.mark.parametrize(("name", "other"), [("raylets", 3), ("cores", 999), ("commit", "an older one")])
def test_sizes_of_other_raylets_machines_or_commits_are_not_mixed(tmp_path, name, other):
    earlier = tmp_path / "earlier.json"
    measured = scale.summarize(every_stage(), 1, 1600.0, None).model_copy(update={name: other})
    earlier.write_text(measured.model_dump_json())
    done = CliRunner().invoke(app, ["bench", "scale", "--rows", "1000", "--with", str(earlier)])
    assert done.exit_code == 1 and f"--with: {name} of the earlier sizes: found {other!r}, expected " in done.stderr


def test_shipped_coefficients_know_every_stage():
    found = load_model(None)
    assert [stage.stage for stage in found.model.stages] == list(STAGES) and len(found.model.sizes) >= 2
    assert found.model.sizes[-2] >= 200_000  # so that the largest task has a line: of several blocks at both largest sizes
    assert all(set(FITTED) == set(stage.lines) for stage in found.model.stages)
    assert found.model.reference_bytes > 100


@pytest.mark.parametrize("text", ["{}", "nothing", '{"stages": 3}'])
def test_a_file_that_holds_no_coefficients_is_named(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"coefficients: .*other\.json is no ScaleModel: .*bench scale --out"):
        load_model(str(path))
    with pytest.raises(InputError, match=r"missing\.json cannot be read: No such file"):
        load_model(str(tmp_path / "missing.json"))


def test_coefficients_survive_their_file(tmp_path):
    model = scale.model_of(scale.summarize(every_stage(), 1, 1600.0, None))
    assert ScaleModel.model_validate_json(json.dumps(model.model_dump(mode="json"))) == model


def test_only_listings_are_counted():
    answered = []
    counter = ListingCounter(lambda environ, start: answered.append(environ) or [b""])
    for method, query in (("GET", "list-type=2&prefix=run/"), ("GET", ""), ("PUT", "list-type=2"), ("HEAD", "")):
        counter({"REQUEST_METHOD": method, "QUERY_STRING": query}, lambda *_: None)
    assert counter.calls == 1 and len(answered) == 4


@pytest.mark.parametrize(
    ("name", "title", "kind"),
    [
        ("ray::_run", "ray::_run", "task"), ("ray::IDLE", "ray::IDLE", "task"),
        ("ray::MapWorker", "ray::MapWorker(MapBatches(Grader))", "actor"),
        ("gcs_server", "/ray/core/src/ray/gcs/gcs_server --log_dir", "head"), ("raylet", "/ray/raylet --raylet_socket", "ray"),
        ("ray::DashboardA", "ray::DashboardAgent", "ray"),
    ],
)  # fmt: skip
def test_processes_of_a_cluster_are_told_apart(name, title, kind):
    assert kind_of(name, title) == kind
