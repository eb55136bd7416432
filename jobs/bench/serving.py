"""What both benchmarks of serving share: a peer's answer, from an interpreter that has it."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from engine.errors import InputError

SCRIPT = Path(__file__).with_name("serving_peers.py")


def installed(python: str) -> list[str]:
    """Return the libraries that the interpreter `python` has."""
    return subprocess.run([python, str(SCRIPT)], check=True, capture_output=True, text=True).stdout.split()


def ask(python: str, name: str, given: Any) -> Any:
    """Return what the library `name` makes of `given`.

    Raises:
        InputError: it ended with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.json"), Path(folder, "out.json")
        source.write_text(json.dumps(given))
        ended = subprocess.run([python, str(SCRIPT), name, str(source), str(target)], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise InputError(f"{name} in {python} ended with an error:\n{ended.stderr[-2000:]}")
        return json.loads(target.read_text())
