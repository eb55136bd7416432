#!/usr/bin/env bash
# mode="create" of a local disk lets several writers create the same file.
#
# Guess: pipe_file(path, data, mode="create"), an exclusive write on S3 and Google's store, is one on a local disk, too: open has the
#        mode "x" for it. Of several writers one succeeds, the others get FileExistsError.
# Seen:  of eight threads that create one file at the same time, several succeed in some rounds, and the file holds the bytes of one of
#        them: the base class asks whether the file exists, and then opens it for writing.
# With:  fsspec 2026.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fsspec==2026.9.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import fsspec

disk, writers, rounds = fsspec.filesystem("file"), 8, 300
sys.setswitchinterval(1e-5)


def create(path, number, gate):
    """Whether this writer was told that it made the file."""
    gate.wait()
    try:
        disk.pipe_file(path, f"writer {number}".encode(), mode="create")
    except FileExistsError:
        return False
    return True


winners = []
with ThreadPoolExecutor(writers) as pool:
    for turn in range(rounds):
        gate, path = Barrier(writers), f"{sys.argv[1]}/{turn}.json"
        winners.append(sum(pool.map(lambda number: create(path, number, gate), range(writers))))
print({"rounds": rounds, "with one winner": winners.count(1), "with several": sum(count > 1 for count in winners)})
assert min(winners) >= 1 and any(count > 1 for count in winners)
try:
    disk.pipe_file(f"{sys.argv[1]}/0.json", b"late", mode="create")
except FileExistsError:
    print("a later writer is refused")
else:
    raise AssertionError("a later writer is not refused any more")
PYTHON
