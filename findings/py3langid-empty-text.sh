#!/usr/bin/env bash
# An empty text is Afrikaans.
#
# Guess: a text without letters has no language, or the one for "no linguistic content".
# Seen:  classify("") and classify("ok") are ("af", -3.4e38), the first language of the list with the least score there is; only
#        "12345" is "zxx".
# With:  py3langid 0.4.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet py3langid==0.4.0
"$folder/venv/bin/python" - <<'PYTHON'
import py3langid

found = {text: py3langid.classify(text) for text in ("", "ok", "12345")}
print(found)
assert [found[text][0] for text in ("", "ok", "12345")] == ["af", "af", "zxx"] and found[""][1] < -3e38
PYTHON
