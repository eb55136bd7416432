"""What benches measure with: prompts as the line leaves them, and the sight of another command's processes."""

import subprocess
import sys

import pytest

from jobs.bench import flow
from jobs.bench.watch import watch

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; held = bytearray(90 << 20); time.sleep(1.5)'])"


def test_watch_tells_the_driver_from_what_it_starts(tmp_path):
    used = watch([sys.executable, "-c", CHILD], cwd=tmp_path, log=tmp_path / "log")
    assert used.peak_mib["ray"] > 90 > used.peak_mib["driver"] > 0  # the child is no driver, and no worker at a known stage
    assert used.seconds > 1


def test_watched_command_that_fails_shows_its_last_words(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as failure:
        watch([sys.executable, "-c", "raise SystemExit('no room')"], cwd=tmp_path, log=tmp_path / "log")
    assert b"no room" in failure.value.output


def test_bench_prompts_are_the_same_each_time_and_every_shard_is_a_range_of_ids():
    shards = list(flow._prompts(50, 20))
    assert [shard.num_rows for shard in shards] == [20, 20, 10]
    ids = [sorted(shard["prompt_id"].to_pylist()) for shard in shards]
    assert [*ids[0], *ids[1], *ids[2]] == sorted({*ids[0], *ids[1], *ids[2]})
    assert ids[0] != shards[0]["prompt_id"].to_pylist()  # within a shard kinds stand together
    assert all(one.equals(other) for one, other in zip(shards, flow._prompts(50, 20), strict=True))


def test_flow_as_text_has_a_line_for_each_run():
    run = {"seconds": 20.0, "rows_per_second": 4000, "rows_per_core": 3000, "cpu_seconds": {}, "peak_mib": {"driver": 300}}
    again = {**run, "rows_per_second": None}
    text = flow.as_text([{"rows": 1_000_000, "run": run, "again": again, "replay": run}])
    assert [line.split()[:2] for line in text.splitlines()[2:]] == [["1,000,000", what] for what in ("run", "again", "replay")]
