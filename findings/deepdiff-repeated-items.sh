#!/usr/bin/env bash
# Two lists that are equal but for the order may differ in length.
#
# Guess: ignore_order=True compares lists as bags: the order does not matter, how often an item occurs does.
# Seen:  [1, 1] and [1] have no difference, nor have [1, 2, 2] and [2, 1, 1], at any depth: an answer that lists a line of an order
#        twice equals the reference that has it once. With report_repetition=True they differ.
# With:  deepdiff 9.1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deepdiff==9.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from deepdiff import DeepDiff

line = {"article": "A4", "count": 2}
pairs = [([1, 1], [1]), ([1, 2, 2], [2, 1, 1]), ({"lines": [line, line]}, {"lines": [line]})]
plain = [DeepDiff(*pair, ignore_order=True) for pair in pairs]
counted = [DeepDiff(*pair, ignore_order=True, report_repetition=True) for pair in pairs]
print("deepdiff", version("deepdiff"), "differences:", plain, "with report_repetition:", list(map(list, counted)))
assert plain == [{}, {}, {}]
assert all(counted)
PYTHON
