#!/usr/bin/env bash
# A model that lost no comparison has a finite strength.
#
# Guess: of three models where the first won each comparison and the last none, the likelihood has no maximum: each of the functions
#        that maximise it raises, as ilsr_pairwise and mm_pairwise do.
# Seen:  opt_pairwise(alpha=0) returns where its optimiser stopped: 12.2, 0 and -12.2, so odds of 200,000 to 1 from two comparisons,
#        without a warning; another method stops elsewhere. With alpha=0.01 both functions return about 3, 0 and -3.
# With:  choix 0.4.1, numpy 2.2.6, scipy 1.14.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet choix==0.4.1 numpy==2.2.6 scipy==1.14.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import choix
import numpy as np

WON = [(0, 1), (1, 2)]
with warnings.catch_warnings():
    warnings.simplefilter("error")
    found = choix.opt_pairwise(3, WON, alpha=0)
    other = choix.opt_pairwise(3, WON, alpha=0, method="BFGS")
try:
    choix.ilsr_pairwise(3, WON)
    raised = ""
except ValueError as error:
    raised = str(error)
penalised = choix.ilsr_pairwise(3, WON, alpha=0.01), choix.opt_pairwise(3, WON, alpha=0.01)
print("choix", version("choix"), "opt_pairwise:", found, "by BFGS:", other, "ilsr_pairwise:", raised)
print("with alpha=0.01:", *penalised)
assert found[0] > 10
assert abs(found[0] - other[0]) > 0.5
assert raised
assert all(2 < strengths[0] < 4 for strengths in penalised)
assert np.allclose(*penalised, atol=1)
PYTHON
