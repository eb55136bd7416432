#!/usr/bin/env bash
# All words of more than a hundred letters are the same word.
#
# Guess: a WordPiece tokenizer cuts a word into pieces that it knows, however long: what it cannot cut is [UNK].
# Seen:  a word of 101 letters is one [UNK], though a hundred of them are a hundred pieces: two texts that differ in a long link,
#        a hash or a base64 value are the same ids, so their embeddings are equal. max_input_chars_per_word=1000 cuts it.
# With:  tokenizers 0.23.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import WhitespaceSplit

VOCABULARY = {"[UNK]": 0, "a": 1, "##a": 2, "b": 3, "##b": 4, "see": 5}


def tokens(text, **options):
    """The tokens of `text`."""
    tokenizer = Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]", **options))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return tokenizer.encode(text).tokens


first, second = "see " + "a" * 101, "see " + "b" * 101
print("tokenizers", version("tokenizers"), "101 letters:", tokens(first), tokens(second), "100:", len(tokens("a" * 100)))
assert tokens("a" * 100) == ["a"] + ["##a"] * 99
assert tokens(first) == tokens(second) == ["see", "[UNK]"]
assert tokens(first, max_input_chars_per_word=1000) == ["see", "a"] + ["##a"] * 100
PYTHON
