"""Tools of the benchmarks: made prompts, and the measurement of another command's processes."""

import subprocess
import sys

import pytest

from jobs.bench import flow
from jobs.bench.flow import Files, FlowBench, FlowRun, FlowSize
from jobs.bench.watch import CommandFailed, Sampler, watch

HOLDS_90_MIB = "block = b'x' * (90 << 20); print('ready', flush=True); input()"
DRIVER = f'import subprocess, sys; subprocess.run([sys.executable, "-c", "{HOLDS_90_MIB}"])'


def test_sampler_tells_the_driver_from_its_children():
    """The child holds its memory until the sample is taken, so that the machine's speed plays no part."""
    sampler = Sampler()
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout and driver.stdout.readline() == "ready\n"
        sampler.sample(driver.pid)
        driver.communicate("\n")
    usage = sampler.usage()
    assert usage.peak_mib["ray"] > 90 > usage.peak_mib["driver"] > 0  # the child is neither the driver nor a known worker
    assert usage.together_mib >= 90


def test_watch_of_a_command_that_fails_shows_the_end_of_its_output(tmp_path):
    with pytest.raises(CommandFailed, match=r"ended with exit code 1\. Its last lines:\nno room$") as failure:
        watch([sys.executable, "-c", "raise SystemExit('no room')"], cwd=tmp_path, log=tmp_path / "log")
    assert failure.value.output == "no room"


def test_watch_counts_what_a_process_used_after_its_last_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.bench.watch.EVERY", 60)  # one sample, at the start
    burns = "import time\nwhile time.process_time() < 0.5: pass"
    usage = watch([sys.executable, "-c", burns], cwd=tmp_path, log=tmp_path / "log")
    assert usage.cpu_seconds["driver"] >= 0.5


def test_bench_prompts_are_the_same_each_time_and_every_shard_is_a_range_of_ids():
    shards = list(flow.make_prompts(50, 20))
    assert [shard.num_rows for shard in shards] == [20, 20, 10]
    ids = [sorted(shard["prompt_id"].to_pylist()) for shard in shards]
    assert [*ids[0], *ids[1], *ids[2]] == sorted({*ids[0], *ids[1], *ids[2]})
    assert ids[0] != shards[0]["prompt_id"].to_pylist()  # within a shard rows are sorted by scenario
    assert all(shard.equals(again) for shard, again in zip(shards, flow.make_prompts(50, 20), strict=True))


def test_flow_as_text_has_a_line_for_each_run():
    run = FlowRun(seconds=20.0, rows_per_second=4000, rows_per_core=3000, cpu_seconds={}, peak_mib={"driver": 300})
    again = run.model_copy(update={"rows_per_second": None})
    files = Files(files=1, bytes=10)
    size = FlowSize(rows=1_000_000, run=run, again=again, replay=run, ledger=files, candidates=files)
    text = flow.as_text(FlowBench(sizes=[size]))
    assert [line.split()[:2] for line in text.splitlines()[2:]] == [["1,000,000", what] for what in ("run", "again", "replay")]
