#!/usr/bin/env bash
# An added token of one accented letter cannot be decoded.
#
# Guess: decode(encode(text)) returns the text with a byte-level tokenizer, and a token that is added is decoded to its own
#        content.
# Seen:  the decoder reads the content of an added token as byte letters if all its characters are some: the letter e with an
#        acute accent, or the pound sign, once added, is decoded to the replacement character. Before it was added, and of an
#        added token in Chinese, decode is right.
# With:  tokenizers 0.23.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
texts = ["caf\u00e9", "10 \u00a3", "\u65e5\u672c"]


def trips():
    """Each text, encoded and decoded."""
    return [tokenizer.decode(tokenizer.encode(text).ids) for text in texts]


before = trips()
tokenizer.add_tokens(["\u00e9", "\u00a3", "\u65e5"])
after = trips()
print("tokenizers", version("tokenizers"), "before", ascii(before), "with the tokens added", ascii(after))
assert before == texts
assert after == ["caf\ufffd", "10 \ufffd", "\u65e5\u672c"]
PYTHON
