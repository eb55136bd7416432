#!/usr/bin/env bash
# Nm is read as the metric count of a yarn, a length per mass.
#
# Guess: "5 Nm", as data sheets write torque, is five newton metres.
# Seen:  its unit is number_meter, of the textile units: the dimension is [length] / [mass], and it converts to no energy.
# With:  pint 0.25.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pint==0.25.3
"$folder/venv/bin/python" - <<'PYTHON'
import pint

registry = pint.UnitRegistry()
torque = registry("5 Nm")
print(torque.units, torque.dimensionality)
assert str(torque.units) == "number_meter" and torque.check("[length] / [mass]") and not torque.check("[energy]")
PYTHON
