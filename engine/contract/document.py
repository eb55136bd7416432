"""Writes the reference of all contract keys: `python -m engine.contract.document > jobs/contracts/README.md`.

The text before the reference is in `document.md`. Everything else comes from the models: names, types, defaults, and the docstring
under each field.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from engine.contract.base import Section
from engine.contract.contract import Contract
from engine.contract.keys import Link, default_words, limited_words, one_line, sections, tag_of
from engine.contract.profile import Profile
from engine.docstrings import field_docs

HEAD = Path(__file__).with_name("document.md")


def document() -> str:
    """Return the text of jobs/contracts/README.md."""
    parts = [HEAD.read_text(encoding="utf-8").rstrip(), *_reference("Keys of a contract", Contract)]
    return "\n".join([*parts, *_reference("Keys of a cluster profile", Profile)]) + "\n"


def _reference(title: str, root: type[Section]) -> Iterator[str]:
    yield f"\n## {title}"
    headings: dict[type[Section], str] = {}
    for path, section in sections(root, ""):
        headings.setdefault(section, path or root.__name__.lower())
    link = _links(headings)
    for section, heading in headings.items():
        yield f"\n### {heading}\n\n{one_line(section.__doc__ or '')}\n"
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        docs = field_docs(section)
        yield from (_row(name, field, docs.get(name, ""), link) for name, field in section.model_fields.items())


def _links(headings: Mapping[type[Section], str]) -> Link:
    """Return what writes a section as a link to its heading."""

    def link(section: type[Section]) -> str:
        anchor = re.sub(r"[^a-z0-9_ -]", "", headings[section].lower()).replace(" ", "-")
        return f"[{tag_of(section) or 'section'}](#{anchor})"

    return link


def _row(name: str, field: FieldInfo, doc: str, link: Link) -> str:
    default = "required" if field.is_required() else f"`{default_words(field)}`"
    cells = [f"`{name}`", limited_words(field, link), default, one_line(doc)]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "\\<") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(document())
