#!/usr/bin/env bash
# Words of Hindi are cut at their vowels, or vanish.
#
# Guess: the default token_pattern of TfidfVectorizer, \w\w+, finds the words of any script that parts words with spaces.
# Seen:  vowel signs are no \w: of "namaste hindi" in Devanagari the analyzer finds three letters of the first word and nothing
#        of the second.
# With:  scikit-learn 1.9.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
from sklearn.feature_extraction.text import TfidfVectorizer

analyze = TfidfVectorizer().build_analyzer()
words = "\u0928\u092e\u0938\u094d\u0924\u0947 \u0939\u093f\u0928\u094d\u0926\u0940"  # namaste hindi
found = analyze(words)
print(words.split(), found, analyze("hello world"))
assert found == ["\u0928\u092e\u0938"] and analyze("hello world") == ["hello", "world"]
PYTHON
