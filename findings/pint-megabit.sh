#!/usr/bin/env bash
# b is a barn, so that 4 Mb/s is an area a second.
#
# Guess: Mb is megabit, as B is byte.
# Seen:  B is byte, but b is barn (nuclear cross section): "4 Mb" has the dimension [length] ** 2 and does not convert to bytes.
# With:  pint 0.25.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pint==0.25.3
"$folder/venv/bin/python" - <<'PYTHON'
import pint

registry = pint.UnitRegistry()
small, large = registry("4 Mb"), registry("4 MB")
print(small.units, small.dimensionality, "/", large.units)
assert str(small.units) == "megabarn" and small.check("[length] ** 2") and str(large.units) == "megabyte"
PYTHON
