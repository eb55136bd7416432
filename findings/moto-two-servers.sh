#!/usr/bin/env bash
# Two servers in one process are one store.
#
# Guess: two ThreadedMotoServer on two ports are two clouds, each with its own buckets, as two processes of moto_server are;
#        stop() of one leaves the other.
# Seen:  the buckets belong to the process: what is written through one port is read through the other, and a server that is
#        started after the first has stopped still has its objects. Only a reset, over HTTP, empties it, and that of one empties
#        both.
# With:  moto[s3,server] 5.2.5, boto3 1.43.117
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet moto[s3,server]==5.2.5 boto3==1.43.117
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import urllib.request
from importlib.metadata import version

import boto3
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)


def start():
    """A server on a free port: the server, its address and a client."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    return server, address, boto3.client("s3", endpoint_url=address, **keys)


def names(client):
    """The buckets that a client sees."""
    return [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


(first, _, one), (second, address, two) = start(), start()
one.create_bucket(Bucket="data")
both = names(two)
first.stop()
third, _, three = start()
after = names(three)
urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
reset = names(three)
second.stop()
third.stop()
print("moto", version("moto"), "the second server has", both, "one after stop() has", after, "after a reset of the second", reset)
assert both == after == ["data"] and reset == []
PYTHON
