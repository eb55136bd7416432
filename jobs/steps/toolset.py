"""The tools that a contract gives its teachers, and what lies in their files."""

from typing import Any

from engine.prompts import files
from engine.runs.job import Bench
from engine.tools.toolset import Kit


def kit(bench: Bench) -> Kit | None:
    """Return the tools of the contract; None if its mode calls none."""
    section = bench.contract.teachers
    if section.mode != "tools":
        return None
    return Kit(section.tools, max_calls=section.max_calls, root=bench.root, hashes=hashes(bench))


def hashes(bench: Bench) -> dict[str, Any]:
    """Return what identifies the content of every file that a tool reads, so that a changed table is named as drift."""
    paths = sorted({path for tool in bench.contract.teachers.tools for path in tool.files.values()})
    return {name: hash for path in paths for name, hash in files.identity(path, root=bench.root).items()}
