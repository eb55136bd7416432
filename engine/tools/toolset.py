"""The tools of one contract. The dict `TOOLS` maps `type` to a class."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass

from engine.contract.tools import Tool as ToolSection
from engine.rows import content_id
from engine.tools.base import Tool

TOOLS = {
    "calculator": "engine.tools.calculator:Calculator",
    "sql": "engine.tools.sql:Sql",
    "retrieval": "engine.tools.retrieval:Retrieval",
}


@dataclass(frozen=True)
class Toolset:
    """Settings of an agent's tools, in plain picklable values."""

    sections: tuple[ToolSection, ...]
    max_calls: int
    root: str
    """Folder that relative paths of `sections` start from."""
    hashes: Mapping[str, str]
    """File -> hash of its content, for each file that a tool reads."""
    in_system_text: bool = True
    """Whether the system text describes the tools: for a teacher it does, a student has been trained to use them."""

    @property
    def identity(self) -> str:
        """Hash of all that an answer depends on: the settings, and the content of the files. It is part of cache keys."""
        sections = [section.model_dump_json() for section in self.sections]
        return content_id(self.max_calls, self.in_system_text, sections, sorted(self.hashes.items()))

    def open(self) -> dict[str, Tool]:
        """Return the tools by name.

        Raises:
            InputError: a file cannot be read.
        """
        return {section.name: pkgutil.resolve_name(TOOLS[section.type])(section, self.root) for section in self.sections}
