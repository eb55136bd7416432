#!/usr/bin/env bash
# 5 m equals 5 km.
#
# Guess: two lengths in other units are different, or the unit makes a text unreadable.
# Seen:  a unit is left out before anything is compared: verify says that 5 m equals 5 km, and that 3 hours equals 3 seconds.
# With:  math-verify 0.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet math-verify==0.9.0
"$folder/venv/bin/python" - <<'PYTHON'
from math_verify import parse, verify

pairs = [("5 m", "5 km"), ("3 hours", "3 seconds"), ("5 m", "6 m")]
equal = [verify(parse(gold), parse(answer)) for gold, answer in pairs]
print(list(zip(pairs, equal)))
assert equal == [True, True, False]
PYTHON
