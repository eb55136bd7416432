#!/usr/bin/env bash
# to_json keeps ten decimals of a float.
#
# Guess: JSON holds a double exactly, as json.dumps writes it, so to_json and load_dataset return the values that were there:
#        log-probabilities, weights, small probabilities.
# Seen:  the numbers pass through pandas, which rounds to ten decimals: 1/3 is written as 0.3333333333, and 1e-12 as 0.0, in
#        lists too, without a warning; 1e-20 is whole, as numbers below 1e-15 are written with an exponent. double_precision=15,
#        which goes through to pandas, is the most there is.
# With:  datasets 5.2.0, pandas 3.1.1, pyarrow 26.0.1, numpy 2.3.5, fsspec 2026.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.3.5 fsspec==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version

from datasets import Dataset, disable_progress_bars

disable_progress_bars()
values = [1 / 3, 1e-12, 1e-20]
rows = Dataset.from_dict({"value": values, "list": [[value] for value in values]})


def written(**options):
    """The values of both columns, as json.loads reads them."""
    rows.to_json("rows.jsonl", **options)
    with open("rows.jsonl") as lines:
        read = [json.loads(line) for line in lines]
    return [row["value"] for row in read], [row["list"][0] for row in read]


default, most = written(), written(double_precision=15)
print("datasets", version("datasets"), "pandas", version("pandas"), values, "are", default[0], "with double_precision=15", most[0])
assert default == ([0.3333333333, 0.0, 1e-20],) * 2
assert values[0] != most[0][0] == 0.333333333333333 and most[0][1] == 1e-12
assert json.loads(json.dumps(values)) == values
PYTHON
