#!/usr/bin/env bash
# The threshold of an index decides nothing that the index returns.
#
# Guess: RMinHashLSH(threshold, num_perm, num_bands) returns what is about as similar as its threshold, as datasketch's MinHashLSH:
#        a lower threshold returns more.
# Seen:  query returns the same for 0.1 and 0.99: only num_bands counts. With 32 bands of 128 permutations a set with a Jaccard index
#        of 0.67 is returned at 0.99, and one of 0.25 is not at 0.1. Only is_similar reads the threshold.
# With:  rensa 0.5.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rensa==0.5.0
"$folder/venv/bin/python" - <<'PYTHON'
from rensa import RMinHash, RMinHashLSH

WORDS = 100


def signature(shared):
    """That of a set which shares so many of its words with the one in the index."""
    found = RMinHash(128, 42)
    found.update([f"w{number}" for number in range(shared)] + [f"z{number}" for number in range(WORDS - shared)])
    return found


seen = {}
for threshold in (0.1, 0.5, 0.99):
    index = RMinHashLSH(threshold, 128, 32)
    index.insert(1, signature(WORDS))
    found = {shared: bool(index.query(signature(shared))) for shared in (100, 80, 40)}
    similar = index.is_similar(signature(WORDS), signature(80))
    seen[threshold] = {"query": found, "is_similar": similar}
    print(threshold, seen[threshold])
assert all(each["query"] == {100: True, 80: True, 40: False} for each in seen.values())
assert [each["is_similar"] for each in seen.values()] == [True, True, False]
PYTHON
