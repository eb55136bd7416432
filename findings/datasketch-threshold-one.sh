#!/usr/bin/env bash
# A threshold of 0.99 has no index.
#
# Guess: MinHashLSH takes every threshold from 0 to 1, as its message for 1.1 says; 1.0 finds equal sets only.
# Seen:  at 0.99 and 1.0 (128 permutations) it raises "The number of bands are too small (b < 2)": the best number of bands is
#        one.
# With:  datasketch 2.0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasketch==2.0.0
"$folder/venv/bin/python" - <<'PYTHON'
from datasketch import MinHashLSH


def attempt(threshold):
    """The number of bands, or the message."""
    try:
        return MinHashLSH(threshold=threshold, num_perm=128).b
    except ValueError as error:
        return str(error)


seen = {threshold: attempt(threshold) for threshold in (0.9, 0.95, 0.99, 1.0, 1.1)}
print(seen)
assert seen[0.95] >= 2 and "b < 2" in str(seen[0.99]) and "b < 2" in str(seen[1.0]) and "[0.0, 1.0]" in str(seen[1.1])
PYTHON
