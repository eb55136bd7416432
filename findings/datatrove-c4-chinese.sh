#!/usr/bin/env bash
# The C4 filter of a Chinese text knows no Chinese full stop.
#
# Guess: C4QualityFilter(language="zho") drops lines without a terminal mark of that language, as FineWebQualityFilter does with
#        its list of marks.
# Seen:  language chooses the tokenizer only: the marks are five of ASCII, so every line that ends with a Chinese or Hindi full
#        stop is dropped. With min_num_sentences=-1 the document passes, and its text is empty.
# With:  datatrove 0.10.1, regex 2026.11.15
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datatrove==0.10.1 regex==2026.11.15
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter
from datatrove.utils.text import TERMINAL_PUNCTUATION

texts = {
    "eng": "The weather is fine today.\n" * 6,
    "zho": "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\n" * 6,
    "hin": "\u0906\u091c \u092e\u094c\u0938\u092e \u0905\u091a\u094d\u091b\u093e \u0939\u0948\u0964\n" * 6,
}
seen = {}
for language, text in texts.items():
    document = Document(text=text, id=language)
    passed = C4QualityFilter(language=language, min_num_sentences=-1, min_words_per_line=1).filter(document)
    seen[language] = (passed, len(document.text.splitlines()))
print("datatrove", version("datatrove"), "passed, and lines left of six:", seen)
assert {"\u3002", "\u0964"} <= set(TERMINAL_PUNCTUATION)
assert seen == {"eng": (True, 6), "zho": (True, 0), "hin": (True, 0)}
PYTHON
