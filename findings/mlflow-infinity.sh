#!/usr/bin/env bash
# A perplexity that is infinite comes back as a number.
#
# Guess: a metric comes back as it was logged, as NaN does: infinity is a float as well.
# Seen:  in a database infinity is kept as the largest double, 1.797e308, and comes back so, with the sign: math.isinf says no, a
#        mean over runs is finite or overflows. NaN comes back as NaN. Nothing warns.
# With:  mlflow-skinny 3.17.2, SQLAlchemy 2.1.9, alembic 1.20.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow-skinny==3.17.2 SQLAlchemy==2.1.9 alembic==1.20.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import math
import os
import sys
from importlib.metadata import version

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
logging.disable(logging.WARNING)

from mlflow import MlflowClient

client = MlflowClient("sqlite:///runs.db")
run = client.create_run(client.create_experiment("students")).info.run_id
for name, value in {"infinite": math.inf, "negative": -math.inf, "nan": math.nan, "half": 0.5}.items():
    client.log_metric(run, name, value)
seen = client.get_run(run).data.metrics
print("mlflow", version("mlflow-skinny"), seen)
assert seen["infinite"] == sys.float_info.max
assert seen["negative"] == -sys.float_info.max
assert math.isnan(seen["nan"])
assert seen["half"] == 0.5
PYTHON
