#!/usr/bin/env bash
# Two texts that differ in their numbers only are the same text for MinHash deduplication.
#
# Guess:near-duplicates are texts whose n-grams are nearly equal: a bill of 12 and one of 980 EUR differ in the n-grams that
#       hold the amounts.
# Seen: the default TextNormConfig, which MinhashConfig uses, replaces every number by 0 before it cuts n-grams: order mails,
#       bills or exercises that differ in their numbers alone are one. With norm_numbers=False they are two.
# With:  datatrove 0.10.1, regex 2026.11.19, tokenizers 0.23.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datatrove==0.10.1 regex==2026.11.19 tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from datatrove.utils.text import TextNormConfig, simplify_text

one, other = "Please send 12 boxes by 3 May, order 4711.", "Please send 980 boxes by 28 May, order 55."
default = [simplify_text(text, TextNormConfig()) for text in (one, other)]
kept = [simplify_text(text, TextNormConfig(norm_numbers=False)) for text in (one, other)]
print("datatrove", version("datatrove"), "default:", default)
print("norm_numbers=False:", kept)
assert default[0] == default[1] == "please send 0 boxes by 0 may order 0"
assert kept[0] != kept[1]
PYTHON
