#!/usr/bin/env bash
# 10% equals 10, and it equals 0.1.
#
# Guess: 10% is 0.1 and not 10.
# Seen:  verify says that 10% equals both, though it says that 10 and 0.1 differ.
# With:  math-verify 0.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet math-verify==0.9.0
"$folder/venv/bin/python" - <<'PYTHON'
from math_verify import parse, verify

pairs = [("10%", "0.1"), ("10%", "10"), ("10", "0.1")]
equal = [verify(parse(gold), parse(answer)) for gold, answer in pairs]
print(list(zip(pairs, equal)))
assert equal == [True, True, False]
PYTHON
