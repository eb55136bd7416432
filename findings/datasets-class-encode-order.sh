#!/usr/bin/env bash
# The label of score 10 is 1, and that of score 2 is 2.
#
# Guess: class_encode_column of whole numbers keeps their order: labels of the scores 1, 2 and 10 are 0, 1 and 2.
# Seen:  the classes are sorted as texts: 1, 10, 2. What compares or averages labels, as an ordinal loss or a weighted kappa
#        does, takes 10 for a score between 1 and 2; the features show it, and nothing warns.
# With:  datasets 5.2.0, pandas 3.1.1, pyarrow 26.0.1, numpy 2.3.5, fsspec 2026.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.3.5 fsspec==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from datasets import Dataset, disable_progress_bars

disable_progress_bars()
rows = Dataset.from_dict({"score": [1, 2, 10, 9]}).class_encode_column("score")
labels, names = rows["score"][:], rows.features["score"].names
print("datasets", version("datasets"), "labels of the scores 1, 2, 10, 9:", labels, "names", names)
assert names == ["1", "10", "2", "9"]
assert labels == [0, 2, 1, 3]
PYTHON
