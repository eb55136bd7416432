#!/usr/bin/env bash
# What is too large for eight bits is NaN, infinity, the largest number, or a small one.
#
# Guess: a cast to a narrow type treats what is too large in one way: the largest number, as ONNX's Cast and a quantiser have it.
# Seen:  it depends on the type, and nothing warns: 500 is NaN in float8_e4m3fn, whose largest number is 448; 62000 is infinity in
#        float8_e5m2 with 57344; 500 is 6, the largest, in float4_e2m1fn; and 8 is -8 in int4.
# With:  ml_dtypes 0.6.0, numpy 2.2.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ml_dtypes==0.6.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import ml_dtypes
import numpy as np

warnings.simplefilter("error")


def cast(value, name):
    """The number `value` in the type `name`."""
    return float(np.float32([value]).astype(getattr(ml_dtypes, name))[0])


seen = {name: cast(value, name) for name, value in [("float8_e4m3fn", 500), ("float8_e5m2", 62000), ("float4_e2m1fn", 500)]}
whole = int(np.int8([8]).astype(ml_dtypes.int4)[0])
print("ml_dtypes", version("ml_dtypes"), seen, "8 as int4:", whole)
assert np.isnan(seen["float8_e4m3fn"])
assert seen["float8_e5m2"] == np.inf
assert seen["float4_e2m1fn"] == 6
assert whole == -8
PYTHON
