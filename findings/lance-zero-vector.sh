#!/usr/bin/env bash
# A nearest-neighbour search leaves out vectors of length 0 without a word, and finds nothing for such a query.
#
# Guess:the 10 nearest of 3 rows are all 3, the undefined distances last; or the search raises.
# Seen: by cosine the row with the vector of zeros is missing, and a query of zeros gives no row at all; by L2 the same rows
#       are complete.
# With:  pylance 14.0.2, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pylance==14.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import lance
import numpy as np
import pyarrow as pa

vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.array([1, 0, 0, 0, 0, 1], "float32")), 2)
data = lance.write_dataset(pa.table({"id": ["east", "zero", "north"], "v": vectors}), "t.lance")


def nearest(query: list[float], metric: str) -> list[str]:
    search = {"column": "v", "q": np.array(query, "float32"), "k": 10, "metric": metric}
    return sorted(data.to_table(nearest=search)["id"].to_pylist())


print("pylance", version("pylance"))
print("cosine:", nearest([1, 0], "cosine"), "of zeros:", nearest([0, 0], "cosine"), "L2:", nearest([1, 0], "l2"))
assert nearest([1, 0], "cosine") == ["east", "north"]
assert nearest([0, 0], "cosine") == []
assert nearest([1, 0], "l2") == nearest([0, 0], "l2") == ["east", "north", "zero"]
PYTHON
