#!/usr/bin/env bash
# A store that cannot be reached says that the bucket does not exist.
#
# Guess: exists of a bucket raises where no server answers, as exists of a key does: that nothing could be asked is no answer.
# Seen:  with nothing at the endpoint exists("bucket") and isfile("bucket/key") are False, while exists("bucket/key"), isdir and
#        ls raise EndpointConnectionError. A check before a first write takes an outage for an empty store.
# With:  s3fs 2026.9.0, fsspec 2026.9.0, aiobotocore 3.10.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet s3fs==2026.9.0 fsspec==2026.9.0 aiobotocore==3.10.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import socket
from importlib.metadata import version

from s3fs import S3FileSystem

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
endpoint = f"http://127.0.0.1:{port}"
s3 = S3FileSystem(key="key", secret="secret", endpoint_url=endpoint, config_kwargs={"retries": {"max_attempts": 0}})


def attempt(method, path):
    """The result, or the name of the error."""
    try:
        return getattr(s3, method)(path)
    except Exception as error:
        return type(error).__name__


calls = [("exists", "bucket"), ("isfile", "bucket/key"), ("exists", "bucket/key"), ("isdir", "bucket/key"), ("ls", "bucket")]
seen = {f"{method}({path})": attempt(method, path) for method, path in calls}
print("s3fs", version("s3fs"), "without a server:", seen)
assert seen["exists(bucket)"] is False
assert seen["isfile(bucket/key)"] is False
assert {seen[name] for name in ("exists(bucket/key)", "isdir(bucket/key)", "ls(bucket)")} == {"EndpointConnectionError"}
PYTHON
