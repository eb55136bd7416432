#!/usr/bin/env bash
# A folder in memory can be moved, but not renamed.
#
# Guess: UPath.rename renames a folder, as pathlib's does.
# Seen:  rename of a folder in memory raises FileNotFoundError, though the folder exists; rename of a file, and move of the
#        folder, work.
# With:  universal-pathlib 0.3.10, fsspec 2026.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet universal-pathlib==0.3.10 fsspec==2026.9.0
"$folder/venv/bin/python" - <<'PYTHON'
from upath import UPath

folder = UPath("memory://runs/first")
(folder / "rows").write_text("1")
try:
    folder.rename("memory://runs/second")
    renamed = "renamed"
except FileNotFoundError as error:
    renamed = f"FileNotFoundError: {error}"
print("folder exists", folder.is_dir(), "rename", renamed)
assert folder.is_dir() and renamed == "FileNotFoundError: /runs/first"
(folder / "rows").rename("memory://runs/first/lines")
folder.move(UPath("memory://runs/second"))
assert UPath("memory://runs/second/lines").read_text() == "1"
PYTHON
