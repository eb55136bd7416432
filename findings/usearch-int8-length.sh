#!/usr/bin/env bash
# An index of int8 by squared L2 forgets how long a vector is.
#
# Guess: dtype="i8" quantises: the numbers become coarser, and the nearest by l2sq stays about the nearest.
# Seen:  each vector of floats is first scaled to length 1, whatever the metric: (1, 0) and (10, 0) are stored alike, and the
#        distance between them is 0, where f32 has 81. Nothing warns; with the metric cos, that is no matter.
# With:  usearch 2.26.6, numpy 2.3.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet usearch==2.26.6 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from usearch.index import Index

vectors = np.array([[1, 0], [10, 0]], dtype=np.float32)
seen = {}
for kind in ("f32", "i8"):
    index = Index(ndim=2, metric="l2sq", dtype=kind)
    index.add([1, 10], vectors)
    matches = index.search(vectors[1], 2)
    seen[kind] = sorted((int(key), float(distance)) for key, distance in zip(matches.keys, matches.distances, strict=True))
print("usearch", version("usearch"), "distances of the keys 1 and 10 from (10, 0):", seen)
assert seen == {"f32": [(1, 81.0), (10, 0.0)], "i8": [(1, 0.0), (10, 0.0)]}
PYTHON
