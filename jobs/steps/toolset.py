"""The tools that a contract gives its teachers, and hashes of their files."""

from engine.runs.job import JobContext
from engine.storage.identity import file_identities
from engine.tools.toolset import Toolset


def toolset(context: JobContext) -> Toolset | None:
    """Return the tools of the contract; None unless its mode is `tools`."""
    section = context.contract.teachers
    if section.mode != "tools":
        return None
    return Toolset(section.tools, max_calls=section.max_calls, root=context.root, hashes=file_hashes(context))


def file_hashes(context: JobContext) -> dict[str, str]:
    """Return file -> hash for every file that a tool reads, so that a changed table is reported as a recipe mismatch."""
    paths = {path for tool in context.contract.teachers.tools for path in tool.files.values()}
    return file_identities(paths, root=context.root)
