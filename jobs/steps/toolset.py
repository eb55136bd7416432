"""The tools that a contract gives its teachers, and hashes of the files that they read."""

from engine.prompts import files
from engine.runs.job import JobContext
from engine.tools.toolset import Toolset


def toolset(context: JobContext) -> Toolset | None:
    """Return the tools of the contract; None if its mode calls none."""
    section = context.contract.teachers
    if section.mode != "tools":
        return None
    return Toolset(section.tools, max_calls=section.max_calls, root=context.root, hashes=hashes(context))


def hashes(context: JobContext) -> dict[str, str]:
    """Return path -> content hash of every file that a tool reads, so that a changed table is reported as drift."""
    paths = sorted({path for tool in context.contract.teachers.tools for path in tool.files.values()})
    return {name: hash for path in paths for name, hash in files.identity(path, root=context.root).items()}
