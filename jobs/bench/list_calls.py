"""An object store on the loopback that counts requests for a listing, which object stores bill and limit apart from reads."""

import json
import logging
import os
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from engine.errors import InputError

BUCKET, REGION = "bench", "eu-west-1"
LISTING = "list-type=2"  # in the query of S3's ListObjectsV2


class ListingCounter:
    """A WSGI application around that of the store."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, object], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "GET" and LISTING in str(environ.get("QUERY_STRING")):
            with self._lock:
                self.calls += 1
        return self.app(environ, start_response)


@contextmanager
def counting_store() -> Iterator[ListingCounter]:
    """Serve S3's interface from memory, by moto, to all processes that are started meanwhile; `s3://BUCKET` is there.

    Raises:
        InputError: moto is not installed.
    """
    try:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server
    except ImportError:
        raise InputError(
            "bench scale: listings are counted by a stand-in for S3, and moto[server] is not installed. Install the extra `dev`, "
            "or give --list-rows 0."
        ) from None
    counter = ListingCounter(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counter, threaded=True)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each request
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    options = {"endpoint_url": endpoint, "key": "k", "secret": "s", "client_kwargs": {"region_name": REGION}}
    before = os.environ.get("FSSPEC_S3")
    os.environ["FSSPEC_S3"] = json.dumps(options)
    try:
        _empty(endpoint)
        fsspec.filesystem("s3", **options, skip_instance_cache=True).mkdir(BUCKET, create_parents=True, region_name=REGION)
        yield counter
    finally:
        if before is None:
            del os.environ["FSSPEC_S3"]
        else:
            os.environ["FSSPEC_S3"] = before
        server.shutdown()
        thread.join()


def _empty(endpoint: str) -> None:
    """Remove what an earlier store of this process holds: moto's servers share their buckets."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
