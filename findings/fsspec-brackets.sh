#!/usr/bin/env bash
# Reading a file whose name has brackets returns another file.
#
# Guess: cat(path) of a file that exists returns this file; only glob() reads brackets as a pattern.
# Seen:  cat("/data/part[1].jsonl") is a pattern too: it returns part1.jsonl, or raises FileNotFoundError where no such file is;
#        cat_file and open read the file of that name.
# With:  fsspec 2026.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fsspec==2026.9.0
"$folder/venv/bin/python" - <<'PYTHON'
import fsspec

files = fsspec.filesystem("memory")
files.pipe_file("/data/part[1].jsonl", b"mine")
try:
    alone = files.cat("/data/part[1].jsonl")
except FileNotFoundError:
    alone = "FileNotFoundError"
files.pipe_file("/data/part1.jsonl", b"another")
both = files.cat("/data/part[1].jsonl")
print("alone", alone, "beside part1.jsonl", both, "cat_file", files.cat_file("/data/part[1].jsonl"))
assert alone == "FileNotFoundError" and both == {"/data/part1.jsonl": b"another"}
assert files.cat_file("/data/part[1].jsonl") == b"mine"
PYTHON
