#!/usr/bin/env bash
# What was appended to a compressed file is not decompressed.
#
# Guess: decompress returns all that was compressed: frames one after the other are a valid file, as gzip's members are, and
#        that is how shards are joined and what parallel compressors write.
# Seen:  zstandard.decompress and ZstdDecompressor.decompress return the first frame and leave out the rest, without a word;
#        zstandard.open and stream_reader read all of it, as gzip.decompress does of gzip. With allow_extra_data=False the
#        second raises.
# With:  zstandard 0.25.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zstandard==0.25.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import gzip
import io
from importlib.metadata import version

import zstandard

lines = b'{"id": 1}\n', b'{"id": 2}\n'
frames = b"".join(map(zstandard.compress, lines))
reader = zstandard.ZstdDecompressor()
try:
    reader.decompress(frames, allow_extra_data=False)
    raised = ""
except zstandard.ZstdError as error:
    raised = str(error)
whole = zstandard.decompress(frames), reader.decompress(frames)
streams = zstandard.open(io.BytesIO(frames)).read(), reader.stream_reader(io.BytesIO(frames)).read()
print("zstandard", version("zstandard"), "decompress:", whole, "as a stream:", streams)
print("without extra data:", raised)
assert whole == (lines[0], lines[0])
assert streams == (b"".join(lines), b"".join(lines))
assert raised
assert gzip.decompress(b"".join(map(gzip.compress, lines))) == b"".join(lines)
PYTHON
