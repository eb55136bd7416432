#!/usr/bin/env bash
# map returns the results of a function as it was before its module was changed.
#
# Guess: map keeps its results by a hash of the function and of what it calls, so that a changed function is run again; a hash
#        that cannot tell is not used, and a warning says so.
# Seen:  a function that is imported from a module, or a module that the function uses, is hashed by its name: the program with
#        the module changed gets the rows of the earlier code, in another process as well, without a word. The same change in
#        the program's own file runs again.
# With:  datasets 5.2.0, pandas 3.1.1, pyarrow 26.0.1, numpy 2.3.5, fsspec 2026.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.3.5 fsspec==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

MODULE = "def scored(row):\n    return {{'score': {factor} * len(row['text'])}}\n"
PROGRAM = """
import datasets
from scores import scored

def own(row):
    return {{'score': {factor} * len(row['text'])}}

datasets.disable_progress_bars()
rows = datasets.load_dataset("json", data_files="rows.jsonl", cache_dir="cache")["train"]
print(rows.map(scored)["score"][0], rows.map(own)["score"][0])
"""
Path("rows.jsonl").write_text('{"text": "ab"}\n')
seen = []
for factor in (1, 10):
    Path("scores.py").write_text(MODULE.format(factor=factor))
    Path("program.py").write_text(PROGRAM.format(factor=factor))
    done = subprocess.run([sys.executable, "-B", "program.py"], capture_output=True, text=True, check=True)
    seen.append(done.stdout.split())
print("datasets", version("datasets"), "imported function and own, at factor 1:", seen[0], "at factor 10:", seen[1])
assert seen == [["2", "2"], ["2", "20"]]
PYTHON
