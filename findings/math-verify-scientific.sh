#!/usr/bin/env bash
# Scientific notation in plain text loses its exponent.
#
# Guess: parse("1e6") is one million, so that it equals 1000000 and not 1.
# Seen:  it is 1: verify says that 1e6 equals 1, and that 6.02e23 equals 6.02; 10^6 is read well.
# With:  math-verify 0.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet math-verify==0.9.0
"$folder/venv/bin/python" - <<'PYTHON'
from math_verify import parse, verify

SAME = {pair: verify(parse(pair[0]), parse(pair[1])) for pair in [("1000000", "1e6"), ("1", "1e6"), ("6.02", "6.02e23"), ("1000000", "10^6")]}
print(SAME)
assert list(SAME.values()) == [False, True, True, True]
PYTHON
