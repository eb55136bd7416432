#!/usr/bin/env bash
# The centroids of equal points are not that point.
#
# Guess: k-means of 200 copies of one point has this point as each of its centroids.
# Seen:  empty clusters are filled by splitting one by a factor of 1 +- 1/1024, and that is the result: the copies of (1, 1, ...)
#        have several centroids, and none is (1, 1, ...).
# With:  faiss-cpu 1.15.1, numpy 2.3.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

kmeans = faiss.Kmeans(8, 5, seed=1)
kmeans.train(np.ones((200, 8), np.float32))
centroids = np.unique(kmeans.centroids, axis=0)
print(len(centroids), "centroids, distances to the point:", np.abs(centroids - 1).max(axis=1))
assert len(centroids) > 1 and np.abs(centroids - 1).max(axis=1).min() > 5e-4
PYTHON
