#!/usr/bin/env bash
# A transposed NumPy array is saved with its numbers in another order.
#
# Guess: save_file writes the array that it is given, whatever its layout in memory, as np.save does; or it refuses a view, as
#        safetensors.torch does.
# Seen:  of a transposed array safetensors.numpy writes the memory as it lies, under the shape of the view: what load_file
#        returns has the same shape and other numbers. Nothing is raised or warned; safetensors.torch raises for the same
#        tensor, and np.ascontiguousarray mends it.
# With:  safetensors 0.8.0, numpy 2.3.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load_file, save_file

matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
save_file({"view": matrix.T, "copy": np.ascontiguousarray(matrix.T)}, "weights.safetensors")
back = load_file("weights.safetensors")
print("safetensors", version("safetensors"), "saved", matrix.T.tolist(), "loaded", back["view"].tolist())
assert back["view"].shape == matrix.T.shape
assert back["view"].tolist() == matrix.reshape(3, 2).tolist() != matrix.T.tolist()
assert back["copy"].tolist() == matrix.T.tolist()
np.save("view.npy", matrix.T)
assert np.load("view.npy").tolist() == matrix.T.tolist()
PYTHON
