#!/usr/bin/env bash
# A chat template that was removed comes back.
#
# Guess: save_pretrained of a tokenizer without a chat template, into a folder that had one, gives a tokenizer without one.
# Seen:  chat_template.jinja of the earlier save stays, and from_pretrained reads it.
# With:  transformers 5.19.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.19.0
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")), unk_token="?")
with tempfile.TemporaryDirectory() as folder:
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    files = sorted(path.name for path in Path(folder).iterdir())
    template = PreTrainedTokenizerFast.from_pretrained(folder).chat_template
print(files, repr(template))
assert tokenizer.chat_template is None and template == "{{ messages[0].content }}"
PYTHON
