#!/usr/bin/env bash
# Latencies are rounded to two digits before a percentile is taken.
#
# Guess: a percentile is one of the latencies that were measured, to the millisecond, as minimum, maximum and mean are.
# Seen:  147 ms counts as 150, 1,049 as 1,000 and 58,760 as 59,000: the 95th percentile of a server that always takes 1,049 ms is
#        1,000, so a limit of 1,000 is kept, while the mean is 1,049. A change of four percent may not be seen at all.
# With:  locust 2.47.0, gevent 26.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet locust==2.47.0 gevent==26.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from locust.stats import RequestStats


def percentile(milliseconds):
    """The 95th percentile and the mean of a hundred requests that take the same."""
    stats = RequestStats()
    for _ in range(100):
        stats.log_request("POST", "/v1/chat/completions", milliseconds, 0)
    entry = stats.get("/v1/chat/completions", "POST")
    return entry.get_response_time_percentile(0.95), entry.avg_response_time


seen = {milliseconds: percentile(milliseconds) for milliseconds in (99, 147, 1_010, 1_049, 58_760)}
print("locust", version("locust"), "95th percentile and mean:", seen)
assert [percentile for percentile, _ in seen.values()] == [99, 150, 1_000, 1_000, 59_000]
assert [mean for _, mean in seen.values()] == list(seen)
PYTHON
