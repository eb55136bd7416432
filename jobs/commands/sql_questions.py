"""The questions of `views.sql`: a name, a text, one SELECT. `rayleigh sql RUN --question NAME` asks one."""

import difflib
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

from engine.errors import InputError
from jobs.terminal.console import columns

FILE = Path(__file__).with_name("views.sql")
HEAD = re.compile(r"^-- (\w+) \(([\w, ]+)\): (.*)$", re.MULTILINE)


class Question(NamedTuple):
    """One question."""

    name: str
    tables: tuple[str, ...]
    """Tables that it reads."""
    text: str
    """What it asks, and how its columns are read."""
    sql: str

    def can_ask(self, names: Collection[str]) -> bool:
        """Return whether all tables are there."""
        return set(self.tables) <= set(names)


@cache
def questions() -> dict[str, Question]:
    """Return name -> question, in the order of the file.

    A question begins with a line `-- name (tables): text`; further lines of comments go on with the text.
    """
    found = {}
    pieces = HEAD.split(FILE.read_text(encoding="utf-8"))[1:]
    for name, tables, text, body in zip(*(pieces[start::4] for start in range(4)), strict=True):
        lines = body.strip().splitlines()
        more = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
        sql = "\n".join(line for line in lines if not line.startswith("--")).rstrip("; \n")
        found[name] = Question(name, tuple(re.split(r", *", tables)), " ".join([text, *more]), sql)
    return found


def question(name: str, names: Collection[str]) -> Question:
    """Return the question called `name`, if the tables `names` can answer it.

    Raises:
        InputError: there is no such question, or a table that it reads is not there yet.
    """
    known = questions()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"--question {name}: there is no such question.{hint} Known: {', '.join(known)}.")
    if missing := [table for table in known[name].tables if table not in names]:
        raise InputError(f"--question {name}: reads {', '.join(missing)}, which is not there yet. It has: {', '.join(names)}.")
    return known[name]


def as_text() -> str:
    """Return all questions as text."""
    return columns(
        [[each.name, ", ".join(each.tables), each.text] for each in questions().values()], head=["name", "reads", "asks"]
    )
