#!/usr/bin/env bash
# Two empty answers agree, or have nothing in common.
#
# Guess: a ratio of two equal texts is 100, of whatever length; the ratios differ in how they treat the order of words.
# Seen:  of two empty texts ratio, partial_ratio, token_sort_ratio and token_ratio are 100, token_set_ratio,
#        partial_token_set_ratio, QRatio and WRatio 0, though token_ratio is the larger of token_sort_ratio and token_set_ratio.
#        extractOne of an empty answer, which uses WRatio, finds no equal answer at any cutoff above 0.
# With:  RapidFuzz 3.14.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet RapidFuzz==3.14.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from rapidfuzz import fuzz, process

SCORERS = [
    "ratio", "partial_ratio", "token_sort_ratio", "token_ratio", "token_set_ratio", "partial_token_set_ratio", "QRatio", "WRatio",
]  # fmt: skip
seen = {name: getattr(fuzz, name)("", "") for name in SCORERS}
print("RapidFuzz", version("RapidFuzz"), seen)
assert {getattr(fuzz, name)("a", "a") for name in SCORERS} == {100}
assert [seen[name] for name in SCORERS[:4]] == [100] * 4
assert [seen[name] for name in SCORERS[4:]] == [0] * 4
assert process.extractOne("", ["", "a"], score_cutoff=1) is None
PYTHON
