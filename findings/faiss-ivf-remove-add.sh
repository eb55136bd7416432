#!/usr/bin/env bash
# After a removal the next vector gets the number of one that is there.
#
# Guess: remove_ids of an IVF index keeps the numbers of the others, unlike that of a flat index, so a vector that is added
#        later gets a number of its own.
# Seen:  add numbers from ntotal, which the removal has lowered: of 100 vectors two are removed, and the next gets 98, which the
#        index has already. A search returns 98 for both, and nothing raises; a list of texts beside the index gives the wrong
#        one.
# With:  faiss-cpu 1.15.1, numpy 2.3.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import faiss
import numpy as np

vectors = np.random.default_rng(0).random((100, 8), dtype=np.float32)
new = np.full((1, 8), 5, dtype=np.float32)
index = faiss.index_factory(8, "IVF2,Flat")
index.nprobe = 2
index.train(vectors)
index.add(vectors)
removed = index.remove_ids(np.array([0, 1]))
index.add(new)
first = [int(index.search(query, 1)[1][0, 0]) for query in (vectors[98:99], vectors[99:], new)]
print("faiss", faiss.__version__, "removed", removed, "of 100; found for the vectors 98, 99 and the new one:", first)
assert removed == 2 and index.ntotal == 99
assert first == [98, 99, 98]
PYTHON
