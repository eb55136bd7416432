#!/usr/bin/env bash
# fix_text replaces the punctuation of a Chinese text that has no fault.
#
# Guess: fix_text mends text that was decoded wrongly and leaves text that was not; the full-width comma is the right one in
#        Chinese.
# Seen:  fix_character_width, on by default, makes full-width characters half-width: comma, exclamation mark, question mark,
#        colon and brackets of a Chinese text become those of ASCII, its full stop stays, and the ideographic space is a space.
#        With fix_character_width=False the text stays.
# With:  ftfy 6.3.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ftfy==6.3.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import ftfy

TEXT = "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u4f60\u597d\u5417\uff1f\uff08\u4e16\u754c\uff09\u3002"
fixed, kept = ftfy.fix_text(TEXT), ftfy.fix_text(TEXT, fix_character_width=False)
print("ftfy", version("ftfy"), "text", ascii(TEXT), "fixed", ascii(fixed))
assert ftfy.badness.is_bad(TEXT) is False
assert fixed == "\u4f60\u597d,\u4e16\u754c!\u4f60\u597d\u5417?(\u4e16\u754c)\u3002"
assert kept == TEXT
PYTHON
