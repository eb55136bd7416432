#!/usr/bin/env bash
# The slowest requests are not counted.
#
# Guess: a value above the histogram's highest is counted in its last bucket, as Prometheus' +Inf, or raises.
# Seen:  record_value returns False and leaves it out: of 100 latencies of which two are above the highest of 60,000 ms the total is
#        98, and the 99th percentile is that of the fast ones. Only the returned False tells.
# With:  hdrhistogram 0.10.8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hdrhistogram==0.10.8
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from hdrh.histogram import HdrHistogram

latencies = [100] * 98 + [70_000, 90_000]
histogram = HdrHistogram(1, 60_000, 3)
recorded = [histogram.record_value(milliseconds) for milliseconds in latencies]
seen = histogram.get_total_count(), histogram.get_value_at_percentile(99), histogram.get_max_value()
print("hdrhistogram", version("hdrhistogram"), "of", len(latencies), "count, 99th percentile, largest:", seen)
assert recorded == [True] * 98 + [False] * 2
assert seen == (98, 100, 100)
PYTHON
