"""The object store that counts listings."""

import json
import os

import fsspec

from jobs.bench.list_calls import BUCKET, counting_store


def test_each_store_begins_empty_and_counts_its_own_listings() -> None:
    for _ in range(2):
        with counting_store() as counter:
            store = fsspec.filesystem("s3", **json.loads(os.environ["FSSPEC_S3"]), skip_instance_cache=True)
            assert store.find(BUCKET) == []
            before = counter.calls
            store.pipe_file(f"{BUCKET}/run/rows", b"x")
            store.invalidate_cache()
            assert store.find(BUCKET) == [f"{BUCKET}/run/rows"]
            assert counter.calls > before > 0
