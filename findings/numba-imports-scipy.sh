#!/usr/bin/env bash
# The first function that numba compiles, or loads from its cache, imports SciPy's linear algebra, whatever it computes.
#
# Guess:numba needs SciPy's BLAS for np.dot and np.linalg alone, and looks for it when a function uses one of them.
# Seen: `import numba` imports the package scipy; the first call of a function that adds one to an integer imports scipy.linalg
#       and some 70 other modules of SciPy, a tenth of a second. It is the same with SciPy not installed: the call works.
# With: numba 0.65.0, scipy 1.17.1, numpy 2.3.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numba==0.65.0 scipy==1.17.1 numpy==2.3.5
cat > "$folder/adds.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numba

before = len([name for name in sys.modules if name.startswith("scipy")])


@numba.njit
def add_one(number):
    return number + 1


result = add_one(1)
after = len([name for name in sys.modules if name.startswith("scipy")])
print("numba", version("numba"), "result", result, "modules of SciPy before and after the call:", before, after)
print("scipy.linalg" in sys.modules, before, after - before)
PYTHON
with_scipy=$("$folder/venv/bin/python" "$folder/adds.py")
echo "$with_scipy"
tail -1 <<< "$with_scipy" | { read -r imported before more; [ "$imported" = True ] && [ "$before" -lt 30 ] && [ "$more" -gt 60 ]; }
"$folder/venv/bin/pip" uninstall --quiet --yes scipy
without=$("$folder/venv/bin/python" "$folder/adds.py")
echo "$without"
[ "$(tail -1 <<< "$without")" = "False 0 0" ]
grep -q "result 2" <<< "$without"
