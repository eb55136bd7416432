#!/usr/bin/env bash
# A block that a function returns arrives in pieces, though the batch size is None.
#
# Guess: map_batches(function, batch_size=None) takes whole blocks, so that what one step returns is one batch of the next.
# Seen:  what a function returns is cut at the context's target_max_block_size (128 MiB, or what is set), even between two steps
#        that run in one task: a table of 1000 rows comes as several batches. With target_max_block_size None it comes as one.
# With:  ray 2.60.0, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray[data]==2.60.0" numpy==2.3.5 pandas==3.1.1 pyarrow==26.0.1
RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0 timeout 300 "$folder/venv/bin/python" - <<'PYTHON'
import logging

import pyarrow as pa
import ray

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
import ray.data

logging.getLogger("ray.data").setLevel(logging.ERROR)


def batches(size):
    """The rows of each batch that the second step is given, if blocks may have `size` bytes."""
    dataset = ray.data.from_arrow(pa.table({"group": [1]}))
    dataset.context.target_max_block_size = size
    dataset = dataset.map_batches(lambda batch: pa.table({"x": ["a" * 100] * 1000}), batch_size=None, batch_format="pyarrow")
    dataset = dataset.map_batches(lambda batch: {"rows": [batch.num_rows]}, batch_size=None, batch_format="pyarrow")
    return [row["rows"] for row in dataset.take_all()]


try:
    small, large, none = (batches(size) for size in (20_000, 1_000_000, None))
finally:
    ray.shutdown()
print("rows of each batch: at 20 kB", small, "at 1 MB", large, "at None", none)
assert len(small) > 1 and sum(small) == 1000 and large == none == [1000]
PYTHON
