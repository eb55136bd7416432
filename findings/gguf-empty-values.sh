#!/usr/bin/env bash
# An empty string or list is left out of the file.
#
# Guess: a key that is written is in the file: GGUF has strings of length 0 and arrays of no items, and a reader tells an empty
#        value from a missing one.
# Seen:  add_string with "" and add_array with [] write nothing, without a word, so the reader does not find the key; 0, False
#        and a list of one empty string are kept.
# With:  gguf 0.19.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gguf==0.19.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from gguf import GGUFReader, GGUFWriter

writer = GGUFWriter("model.gguf", "llama")
writer.add_string("tokenizer.chat_template", "")
writer.add_array("general.tags", [])
writer.add_array("general.languages", [""])
writer.add_uint32("general.count", 0)
writer.add_bool("general.flag", False)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
keys = sorted(name for name in GGUFReader("model.gguf").fields if not name.startswith("GGUF."))
print("gguf", version("gguf"), "keys in the file:", keys)
assert keys == ["general.architecture", "general.count", "general.flag", "general.languages"]
PYTHON
