#!/usr/bin/env bash
# Where a batch finds too few, it returns the key 0.
#
# Guess: a row of a batch with fewer results than were asked for ends with a mark that is no key, as faiss has -1.
# Seen:  the rest of keys is 0, which is a key of the index as any other, or of none. Only counts, and a distance of NaN, tell.
#        The search of one vector returns a shorter list, and iterating over the batch does as well.
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

vectors = np.eye(4, dtype=np.float32)
index = Index(ndim=4, metric="l2sq", dtype="f32")
index.add([7, 8], vectors[:2])
batch, single = index.search(vectors[:3], 4), index.search(vectors[0], 4)
print("usearch", version("usearch"), "keys", batch.keys.tolist(), "counts", batch.counts.tolist(), "of one", single.keys.tolist())
assert batch.keys[:, 2:].tolist() == [[0, 0]] * 3 and 0 not in index
assert np.isnan(batch.distances[:, 2:]).all() and batch.counts.tolist() == [2, 2, 2]
assert single.keys.tolist() == [7, 8]
assert [len(row) for row in batch] == [2, 2, 2]
PYTHON
