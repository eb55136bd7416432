"""What Ray starts in place of a worker: it has a fork of `fork_server.py` made, and ends as that ends.

A script of its own, which imports nothing that takes time. What a server cannot make is started as Ray would have.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping

SERVER, SETUP = "RAYLEIGH_FORK_SERVER", "RAYLEIGH_SETUP_WORKER"  # variables: path of the socket; Ray's own script
CONTEXT, LANGUAGE = "--serialized-runtime-env-context=", "--language="
SIZE = 4  # bytes of a message's length, as in `fork_server.py`


def main() -> None:
    """Start the worker of the arguments."""
    arguments = sys.argv[1:]
    given = next((each.removeprefix(CONTEXT) for each in arguments if each.startswith(CONTEXT)), "")
    context = json.loads(given or "{}")
    environment = context.get("env_vars") or {}
    if _is_plain(context, environment):
        rest = [each for each in arguments if not each.startswith((CONTEXT, LANGUAGE))]
        while rest and rest[0] in ("-s", "-S"):  # flags of the interpreter
            rest.pop(0)
        asked = {"arguments": rest, "variables": {**os.environ, **environment}, "folder": os.getcwd(), "environment": environment}
        status = _ask(json.dumps(asked).encode())
        if status is not None:
            sys.exit(status)
    os.execv(sys.executable, [sys.executable, os.environ[SETUP], *arguments])


def _is_plain(context: Mapping[str, object], environment: Mapping[str, str]) -> bool:
    """Return whether the runtime environment consists of variables, without references to others."""
    other = context.get("command_prefix") or context.get("override_worker_entrypoint") or context.get("java_jars")
    executable = context.get("py_executable") or sys.executable
    return not other and executable == sys.executable and not any("$" in value for value in environment.values())


def _ask(text: bytes) -> int | None:
    """Have a worker made and wait for its end; return its status, None if no server answers."""
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(os.environ[SERVER])
            socket.send_fds(server, [len(text).to_bytes(SIZE, "big")], [0, 1, 2])
            server.sendall(text)
        except OSError:
            return None
        ended = server.recv(1)
        return ended[0] if ended else 1


if __name__ == "__main__":
    main()
