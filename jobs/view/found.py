"""Finds the runs below a folder, and what a table of them says: steps that are finished, models, the gate's word."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from glob import escape
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
ORDER = {
    name: number
    for number, name in enumerate(("prompts", "candidates", "dataset", "tokens", "capture", "students", "exports", "reports"))
}
AT_ONCE = 8  # runs behind a URL that are read at the same time: each waits for its store
RECORDS = ("*/record.json", "students/*/record.json", "exports/*/*/record.json", "search/*/*/record.json")


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


def runs_below(root: Folder) -> list[Found]:
    """Return every run below `root`, by path; links are not followed, and run folders are not searched further."""
    root.fs.invalidate_cache()
    return [
        Found(content_id(name)[:12], name, root.url if name == "." else (root / name).url) for name in sorted(_names(root, "."))
    ]


def _names(root: Folder, name: str) -> Iterator[str]:
    try:
        path = root.path if name == "." else f"{root.path}/{name}"
        entries = root.with_retries(name, lambda: root.fs.ls(path, detail=True))
    except OSError:  # removed meanwhile, or another person's
        return
    found = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
    if workspace.RUN in found:
        yield name
    elif name == "." or name.count("/") + 1 < DEPTH:
        for inner, entry in found.items():
            if entry["type"] == "directory" and not entry.get("islink") and inner not in SKIPPED and not inner.startswith("."):
                yield from _names(root, inner if name == "." else f"{name}/{inner}")


def lines(runs: Sequence[Found]) -> list[Line]:
    """Return the table's line of each run."""
    if all("://" not in run.folder for run in runs):
        return [line(run) for run in runs]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        contexts = [copy_context() for _ in runs]  # of each thread, which waits for a store no longer than this one
        return list(pool.map(lambda context, run: context.run(line, run), contexts, runs))


def line(run: Found) -> Line:
    """Return the table's line of a run; a run that is damaged says so in it."""
    folder = Folder(run.folder)
    try:
        record: RunRecord = workspace.read_run(folder)
        name = str(record.contract.get("name", ""))
        done = tuple(name for name in finished(folder) if not name.startswith("search/") and load_artifact(folder / name))
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


def finished(folder: Folder) -> dict[str, object]:
    """Return the jobs of a run that have a record, in the order of the pipeline, and what changes with the record."""
    found: dict[str, object] = {}
    for pattern in RECORDS:
        infos = folder.with_retries("", partial(folder.fs.glob, f"{escape(folder.path)}/{pattern}", detail=True))
        for path in sorted(infos):
            name = path.removeprefix(folder.path).strip("/").rpartition("/")[0]
            info = infos[path]
            if not any(part.startswith(".") for part in name.split("/")):
                stamps = [info.get(key) for key in ("mtime", "ETag", "etag", "LastModified", "created", "updated", "size")]
                found[name] = tuple(map(str, stamps))
    return {name: found[name] for name in sorted(found, key=lambda name: (ORDER.get(name.partition("/")[0], len(ORDER)), name))}
