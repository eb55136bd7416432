#!/usr/bin/env bash
# Two samples of one distribution differ by ten times what is called drift.
#
# Guess: the population stability index of two samples of one distribution is near 0; above 0.25 it is read as drift.
# Seen:  ten bins of equal width span both samples, and a bin that is empty in one of them counts as a share of 2e-308: each of a
#        thousand values in such a bin adds 0.7. Of 40 pairs of 1000 normal values each, 15 are above 0.25, up to 3.5. With five
#        bins none is above 0.025.
# With:  frouros 0.9.0, numpy 1.26.4, scipy 1.14.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet frouros==0.9.0 numpy==1.26.4 scipy==1.14.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from frouros.detectors.data_drift import PSI

random = np.random.default_rng(0)
pairs = [(random.normal(size=1000), random.normal(size=1000)) for _ in range(40)]


def index(reference, values, bins):
    """The population stability index of `values`."""
    detector = PSI(num_bins=bins)
    detector.fit(X=reference)
    return float(detector.compare(X=values)[0].distance)


ten, five = ([index(*pair, bins) for pair in pairs] for bins in (10, 5))
default = PSI()
default.fit(X=pairs[0][0])
alarms = sum(value > 0.25 for value in ten)
print("frouros", version("frouros"), "above 0.25 of 40:", alarms, "largest:", max(ten), "with five bins:", max(five))
assert default.compare(X=pairs[0][1])[0].distance == ten[0]
assert alarms == 15
assert 3 < max(ten) < 4
assert max(five) < 0.025
PYTHON
