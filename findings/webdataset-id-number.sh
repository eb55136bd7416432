#!/usr/bin/env bash
# The id of a sample is a number.
#
# Guess: the fields that WebDataset.decode() decodes are those of a format: txt, json, npy; a field of another name is bytes.
# Seen:  id, index, inx and count are integers as well: the id 007 comes back as 7, and the id a7 raises a DecodingError. The
#        writer takes each. With the name uid the field comes back as bytes, as it was.
# With:  webdataset 1.0.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from webdataset import TarWriter, WebDataset
from webdataset.autodecode import DecodingError


def trip(name, value):
    """The field `name` as decode() gives it, or the name of the error."""
    with TarWriter("shard.tar") as writer:
        writer.write({"__key__": "a", name: value})
    try:
        return next(iter(WebDataset("shard.tar", shardshuffle=False).decode()))[name]
    except DecodingError as error:
        return type(error.__cause__).__name__


seen = {name: (trip(name, "007"), trip(name, "a7")) for name in ("id", "index", "txt")}
print("webdataset", version("webdataset"), "007 and a7 as", seen)
assert seen["id"] == seen["index"] == (7, "ValueError")
assert seen["txt"] == ("007", "a7")
assert trip("uid", b"007") == b"007"
PYTHON
