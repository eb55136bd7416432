#!/usr/bin/env bash
# After one NaN a drift detector never detects anything again.
#
# Guess: update(nan) raises, or the value is left out: a later shift by five standard deviations is detected.
# Seen:  it is added to the window's sums, which stay NaN, and no comparison with NaN is true: ADWIN and PageHinkley, which detect
#        the shift within 30 values, detect nothing in a thousand after one NaN. Nothing raises; KSWIN, which compares ranks, does.
# With:  river 0.26.1, numpy 2.2.6, scipy 1.14.1, pandas 3.1.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet river==0.26.1 numpy==2.2.6 scipy==1.14.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import math
import random
from importlib.metadata import version

from river.drift import ADWIN, KSWIN, PageHinkley

random.seed(0)
before, after = [random.gauss(0, 1) for _ in range(1000)], [random.gauss(5, 1) for _ in range(1000)]


def detected(detector, values):
    """The places at which the detector detects a drift."""
    places = []
    for place, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected:
            places.append(place)
    return places


whole = {kind.__name__: detected(kind(), before + after) for kind in (ADWIN, PageHinkley)}
spoilt = {kind.__name__: detected(kind(), [*before[:-1], math.nan, *after]) for kind in (ADWIN, PageHinkley)}
ranks = detected(KSWIN(seed=1), [*before[:-1], math.nan, *after])
print("river", version("river"), "shift at 1000:", whole, "with one NaN before it:", spoilt, "by ranks:", ranks)
assert all(len(places) == 1 and 1000 <= places[0] < 1030 for places in whole.values())
assert spoilt == {"ADWIN": [], "PageHinkley": []}
assert any(1000 <= place < 1100 for place in ranks)
PYTHON
