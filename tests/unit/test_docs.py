"""The READMEs: short where they must be, every link leads to a file, every command is one that exists."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from jobs.cli import app
from tests import docs

README = docs.ROOT / "README.md"
COMMANDS = [command for readme in docs.readmes() for command in docs.commands(readme)]


def test_readme_fits_on_two_screens():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150 and len(text.encode()) <= 12 * 1024


def test_every_room_has_a_readme():
    rooms = {path.parent for path in docs.ROOT.glob("engine/*/__init__.py")} | {docs.ROOT / "jobs", docs.ROOT / "cluster"}
    assert sorted(room.name for room in rooms if not (room / "README.md").is_file()) == []


@pytest.mark.parametrize("readme", docs.readmes(), ids=lambda path: path.relative_to(docs.ROOT).as_posix())
def test_links_lead_to_files(readme: Path):
    assert [str(link) for link in docs.links(readme) if not link.exists()] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.readme}: {command.line}")
def test_commands_exist_with_these_options(command: docs.Command):
    program, *words = command.words
    if program == "rayleigh":
        parse(words)
    elif program == "make":
        assert {word for word in words if "=" not in word} <= targets()
    else:
        assert program in ("python", "bash"), f"{command.readme}: {command.line}: expected rayleigh, make, python or bash"
        assert [
            word for word in words if word.endswith((".py", ".sh")) and not (docs.ROOT / word.partition("::")[0]).exists()
        ] == []


@cache
def targets() -> set[str]:
    """Targets of the Makefile, which make knows all of."""
    found = re.findall(r"^([a-z-]+):(?!=)", (docs.ROOT / "Makefile").read_text(), re.MULTILINE)
    subprocess.run(["make", "--dry-run", *found, "CLINC=x"], cwd=docs.ROOT, check=True, capture_output=True)
    return set(found)


def parse(words: list[str]) -> None:
    """Parse `words` as the command line does, without running the command."""
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    command.make_context("rayleigh", list(words))
