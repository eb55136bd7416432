"""Finds the runs below a folder, and what a table of them says: steps that are finished, models, the gate's word."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.errors import RayleighError
from engine.records.gate import GateDecision
from engine.records.report import Report
from engine.records.run import RunRecord
from engine.rows import content_id
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.commands.summary import NUMBERS

DEPTH = 6  # folders below the root in which runs are looked for
SKIPPED = {"ledger", "logs", "node_modules", "registry"}


class Found(NamedTuple):
    """A run folder."""

    key: str
    """Part of an address: a hash of its path below the root, so that it stays the same."""
    name: str
    """Path below the root."""
    folder: str


class Line(NamedTuple):
    """A run in the table of runs."""

    run: Found
    contract: str
    created: str
    finished: tuple[str, ...]
    """Jobs with an artifact."""
    word: str
    """What the gate says: pass, refuse or undecided; "" without a report."""
    gate: str
    """The same in a sentence, or why the run cannot be read."""


def runs_below(root: Path) -> list[Found]:
    """Return every run below `root`, by path; links are not followed, and run folders are not searched further."""
    return [Found(content_id(name)[:12], name, str(root / name)) for name in sorted(_names(root))]


def _names(root: Path) -> Iterator[str]:
    for folder, inner, files in os.walk(root):
        here = Path(folder)
        name = here.relative_to(root).as_posix()
        if workspace.RUN in files:
            inner.clear()
            yield name
        elif name != "." and name.count("/") + 1 >= DEPTH:
            inner.clear()
        inner[:] = sorted(each for each in inner if each not in SKIPPED and not each.startswith("."))


def line(run: Found) -> Line:
    """Return the table's line of a run; a run that is damaged says so in it."""
    folder = Folder(run.folder)
    try:
        record: RunRecord = workspace.read_run(folder)
        name = str(record.contract.get("name", ""))
        done = tuple(_finished(Path(run.folder)))
        gate = workspace.read_model(folder, NUMBERS, Report).gate if "reports" in done else None
        word, sentence = said(gate) if gate else ("", "no report yet")
        return Line(run, name, record.created, done, word, sentence)
    except RayleighError as error:
        return Line(run, "", "", (), "", str(error))


def said(gate: GateDecision) -> tuple[str, str]:
    """Return the gate's word on a run, and whom it is about."""
    if gate.passing:
        return "pass", f"passed by {', '.join(gate.passing)}"
    if gate.undecided:
        return "undecided", f"undecided on {', '.join(gate.undecided)}"
    return ("refuse", f"refuses {', '.join(gate.refusals)}") if gate.refusals else ("", "no student was weighed")


def _finished(folder: Path) -> Iterator[str]:
    for pattern in ("*/record.json", "students/*/record.json", "exports/*/*/record.json"):
        for path in sorted(folder.glob(pattern)):
            name = path.parent.relative_to(folder).as_posix()
            if not path.parent.name.startswith(".") and load_artifact(Folder(str(path.parent))):
                yield name
