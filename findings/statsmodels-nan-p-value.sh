#!/usr/bin/env bash
# One NaN among the p-values makes every corrected p-value NaN, while hypotheses are still rejected.
#
# Guess:a test that could not be done is left out, or makes the result NaN, or raises; reject is `corrected p-value <= alpha`.
# Seen: with fdr_bh, fdr_by and simes-hochberg all corrected p-values are NaN, and reject is True for the small one; holm and
#       bonferroni give numbers, and count the NaN as one of the tests.
# With:  statsmodels 0.15.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet statsmodels==0.15.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from statsmodels.stats.multitest import multipletests

values = [0.001, float("nan"), 0.04]
print("statsmodels", version("statsmodels"), "p-values", values)
for method in ("fdr_bh", "fdr_by", "simes-hochberg", "holm", "bonferroni"):
    reject, corrected = multipletests(values, method=method)[:2]
    print(f"{method}: rejected {reject.tolist()}, corrected {corrected.tolist()}")
    assert reject.tolist() == [True, False, False]
    if method in ("holm", "bonferroni"):
        assert np.isclose(corrected[0], 0.003) and np.isnan(corrected[1])  # three tests, not two
    else:
        assert np.isnan(corrected).all()
PYTHON
