#!/usr/bin/env bash
# What is streamed token by token is shorter than what is decoded at once.
#
# Guess: the pieces of DecodeStream.step, joined, are what decode gives of the same tokens.
# Seen:  a token that ends within a character is held back, and there is no call that ends the stream: of an answer that a limit cuts
#        within a character decode ends with the replacement character, the stream without. If another token follows, both have it.
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
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.decoders import DecodeStream
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

tokenizer = Tokenizer(BPE({letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))}, []))
tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), Decoder()


def both(ids):
    """The text of a stream, and that of decode."""
    stream = DecodeStream(skip_special_tokens=False)
    return "".join(stream.step(tokenizer, each) or "" for each in ids), tokenizer.decode(ids)


ids = tokenizer.encode("caf\u00e9").ids
cut, followed = both(ids[:-1]), both([*ids[:-1], ids[0]])
print("tokenizers", version("tokenizers"), "cut:", cut, "followed:", followed, "methods:", [name for name in dir(DecodeStream) if name[0] != "_"])
assert both(ids) == ("caf\u00e9", "caf\u00e9")
assert cut == ("caf", "caf\ufffd")
assert followed == ("caf\ufffdc", "caf\ufffdc")
PYTHON
