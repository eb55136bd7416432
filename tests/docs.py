"""The commands and files that the READMEs show. `make docs-check` runs them; `tests/unit/test_docs.py` reads them.

A fenced block with the language `sh` holds commands, one a line. A block whose language is followed by a name, such as
`yaml tickets.yaml`, is a file of that name. Every other block is shown only.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
CODE = re.compile(r"`[^`]*`")
# Commands that take minutes, do not end, or need a machine that is not here: their words and options are checked, not run.
NOT_RUN = ("make ", "rayleigh bench", "rayleigh ablate", "rayleigh serve", "rayleigh view", "python -m pytest")
NOT_HERE = ("s3://", "gs://", "--profile gpu-node", "--profile cluster")


class Command(NamedTuple):
    """One line of a `sh` block."""

    readme: str
    line: str

    @property
    def words(self) -> list[str]:
        """The command and its arguments, without a comment."""
        return shlex.split(self.line, comments=True)

    @property
    def runs(self) -> bool:
        """Whether `make docs-check` runs it."""
        return not self.line.startswith(NOT_RUN) and not any(part in self.line for part in NOT_HERE)


def readmes() -> list[Path]:
    """Return every README of the project, that of the project first."""
    folders = ("engine", "jobs", "cluster", "tests", "findings", "notebooks")
    return [ROOT / "README.md", *sorted(path for folder in folders for path in ROOT.glob(f"{folder}/**/README.md"))]


def commands(readme: Path) -> Iterator[Command]:
    """Yield the commands of `readme`, in order."""
    for language, _, body in FENCE.findall(readme.read_text(encoding="utf-8")):
        if language == "sh":
            lines = body.replace("\\\n", " ").splitlines()
            yield from (
                Command(readme.relative_to(ROOT).as_posix(), line.strip()) for line in lines if shlex.split(line, comments=True)
            )


def files(readme: Path) -> dict[str, str]:
    """Return name -> content of the files that `readme` shows."""
    return {name.strip(): body for _, name, body in FENCE.findall(readme.read_text(encoding="utf-8")) if name.strip()}


def links(readme: Path) -> Iterator[Path]:
    """Yield the local files that `readme` links to."""
    for target in LINK.findall(CODE.sub("", readme.read_text(encoding="utf-8"))):
        if "://" not in target and not target.startswith("mailto:"):
            yield readme.parent / target
