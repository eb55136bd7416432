"""The tools of one contract; a dict chooses by `type`."""

import importlib
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
    """All that is needed to act, in plain picklable values."""

    sections: tuple[ToolSection, ...]
    max_calls: int
    root: str
    """Folder from which the paths of `sections` start."""
    hashes: Mapping[str, str]
    """Path -> hash of the content of each file that a tool reads."""
    is_told: bool = True
    """Whether the model reads what tools there are: a teacher does, a student has learnt it."""

    @property
    def identity(self) -> str:
        """What an answer depends on: the tools as ordered, and what their files say."""
        sections = [section.model_dump_json() for section in self.sections]
        return content_id(self.max_calls, self.is_told, sections, sorted(self.hashes.items()))

    def open(self) -> dict[str, Tool]:
        """Return the tools by name.

        Raises:
            InputError: a file cannot be read.
        """
        opened = {}
        for section in self.sections:
            module, _, name = TOOLS[section.type].partition(":")
            opened[section.name] = getattr(importlib.import_module(module), name)(section, self.root)
        return opened
