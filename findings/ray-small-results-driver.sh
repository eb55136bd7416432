#!/usr/bin/env bash
# The results of tasks fill the memory of the program that only holds their references.
#
# Guess: what a task returns lies in the object store until ray.get, and a reference costs the program some hundred bytes,
#        whatever the result's size.
# Seen:  a result below 100 KB is sent to the program that started the task, and kept in its heap as long as the reference: 1000
#        results of 95 kB cost it some 100 MB, 1000 results of 110 kB a few. ray.wait(fetch_local=False) changes nothing. More
#        small results need more memory there than large ones.
# With:  ray 2.60.0, psutil 7.2.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray==2.60.0" psutil==7.2.2
cd "$folder"
RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0 timeout 300 "$folder/venv/bin/python" - <<'PYTHON'
import psutil
import ray

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@ray.remote
def result(size):
    return bytes(size)


def growth(count, size):
    """By how many MB this process grows while it holds the references to so many results of this size."""
    before = psutil.Process().memory_info().rss
    references = [result.remote(size) for _ in range(count)]
    ray.wait(references, num_returns=count, fetch_local=False)
    return (psutil.Process().memory_info().rss - before) / 1e6, references


try:
    growth(1000, 100)
    (large, kept), (small, kept_too) = growth(1000, 110_000), growth(1000, 95_000)
finally:
    ray.shutdown()
print("ray", ray.__version__, f"1000 references: {small:.0f} MB to results of 95 kB, {large:.0f} MB to results of 110 kB")
assert small > 80
assert large < 30
PYTHON
