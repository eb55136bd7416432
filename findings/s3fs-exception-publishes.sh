#!/usr/bin/env bash
# An object is there, half written, and the whole one before it is gone.
#
# Guess: an object of S3 appears when it is whole, so that a writer that fails leaves the earlier one, or none: `with` aborts the
#        upload when an exception leaves it.
# Seen:  leaving `with` closes the file, and closing uploads what was written so far: the object is the first half, in place of
#        the whole one, and a multipart upload is completed as well. Within fs.transaction it is left out.
# With:  s3fs 2026.9.0, fsspec 2026.9.0, aiobotocore 3.10.0, moto 5.2.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet s3fs==2026.9.0 fsspec==2026.9.0 aiobotocore==3.10.0 'moto[s3,server]==5.2.5'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import logging
from contextlib import suppress
from importlib.metadata import version

from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

logging.disable(logging.WARNING)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
s3 = S3FileSystem(key="key", secret="secret", endpoint_url="http://127.0.0.1:{1}".format(*server.get_host_and_port()))
s3.mkdir("bucket")
MIB = 2**20


def broken(path, data):
    """Write `data`, which is half of what is to be written."""
    with suppress(RuntimeError), s3.open(path, "wb", block_size=5 * MIB) as file:
        file.write(data)
        raise RuntimeError("the source has ended")


s3.pipe_file("bucket/whole", b"first line\nsecond line\n")
broken("bucket/whole", b"first line\n")
broken("bucket/large", bytes(12 * MIB))
with suppress(RuntimeError), s3.transaction:
    broken("bucket/transaction", b"first line\n")
    raise RuntimeError("the source has ended")
s3.invalidate_cache()
seen = s3.cat_file("bucket/whole"), s3.info("bucket/large")["size"], s3.exists("bucket/transaction")
server.stop()
print("s3fs", version("s3fs"), "small, large, in a transaction:", seen)
assert seen == (b"first line\n", 12 * MIB, False)
PYTHON
