#!/usr/bin/env bash
# A compiled function makes a signed number of an unsigned one plus 1.
#
# Guess: a compiled function returns what the Python function does: with NumPy 2 an np.uint64 plus 1 is an np.uint64.
# Seen:  an unsigned 64-bit number and a literal give a signed one: x + 1 of a hash above 2**63 is negative, so that (x + 1) %
#        10 is another bucket than the plain function's, and (x + 1) >> 32 is negative; nothing warns. With np.uint64(1) for 1
#        it is as guessed.
# With:  numba 0.65.0, numpy 2.3.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numba==0.65.0 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numba
import numpy as np


def bucket(x):
    return (x + 1) % 10


def bucket_unsigned(x):
    return (x + np.uint64(1)) % np.uint64(10)


key = np.uint64(2**63 + 5)
plain, compiled = int(bucket(key)), int(numba.njit(bucket)(key))
unsigned = int(numba.njit(bucket_unsigned)(key))
whole = int(numba.njit(lambda x: x + 1)(key))
print("numba", numba.__version__, "numpy", np.__version__, "compiled x + 1:", whole)
print("bucket: plain", plain, "compiled", compiled, "compiled with np.uint64(1)", unsigned)
assert whole == 2**63 + 6 - 2**64
assert plain == unsigned == 4 and compiled != plain
print("high half: plain", int((key + 1) >> 32), "compiled", int(numba.njit(lambda x: (x + 1) >> 32)(key)))
assert int(numba.njit(lambda x: (x + 1) >> 32)(key)) < 0 < int((key + 1) >> 32)
PYTHON
