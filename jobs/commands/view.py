"""`rayleigh view`: serves the page on this machine until Ctrl-C. What it shows is in jobs/view."""

import secrets
import socket
from collections.abc import Callable

import uvicorn

from engine.errors import InputError
from jobs.view import pages, tables
from jobs.view.app import Settings, application
from jobs.view.sources import Sources

HOST = "127.0.0.1"
TOKEN_BYTES = 24


def view(root: str, *, port: int, log: Callable[[str], None]) -> None:
    """Serve the runs below `root`, a local folder or an fsspec URL, on 127.0.0.1; returns after Ctrl-C or SIGTERM.

    Raises:
        InputError: `root` is no folder, or the port is taken.
        StorageError: the URL cannot be opened.
    """
    sources, token = Sources(root), secrets.token_urlsafe(TOKEN_BYTES)
    if not sources.root.fs.isdir(sources.root.path):
        raise InputError(f"{root}: found no such folder, expected one with runs below it, such as runs, or a URL of one.")
    pages.warm_up()
    tables.warm_up()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()  # who opens the address before the server runs waits for it
        except OSError as error:
            raise InputError(f"--port {port}: cannot be opened: {error}. Give another one, or 0 for any free one.") from None
        log(f"http://{HOST}:{listener.getsockname()[1]}/{token}/")
        log(f"{len(sources.runs())} runs below {sources.root}. The address is a key: who has it can read them. Ctrl-C ends.")
        app = application(Settings(sources, token))
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="off")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            sources.close()
