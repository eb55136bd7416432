#!/usr/bin/env bash
# One NaN that is observed makes every later mean NaN.
#
# Guess: observe(nan) raises, or is counted and spoils one sample: a rate over a later interval is right again.
# Seen:  it is added to the sum and to no bucket: the count, which is that of the buckets, does not have it, and the sum is NaN
#        as long as the process lives, so that sum / count is NaN for each interval that follows. A counter takes inc(nan) in
#        the same way, though it refuses a negative value.
# With:  prometheus-client 0.26.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prometheus-client==0.26.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram

registry = CollectorRegistry()
seconds = Histogram("seconds", "Latency.", buckets=[1, 2], registry=registry)
tokens = Counter("tokens", "Tokens.", registry=registry)
seconds.observe(float("nan"))
tokens.inc(float("nan"))
for _ in range(3):
    seconds.observe(1.5)
    tokens.inc()
seen = {name: registry.get_sample_value(name) for name in ("seconds_count", "seconds_sum", "tokens_total")}
print("prometheus-client", version("prometheus-client"), "after NaN and three of 1.5:", seen)
assert seen["seconds_count"] == 3
assert seen["seconds_sum"] != seen["seconds_sum"] and seen["tokens_total"] != seen["tokens_total"]
try:
    tokens.inc(-1)
    raised = False
except ValueError:
    raised = True
assert raised
PYTHON
