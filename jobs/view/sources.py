"""What the page reads of a run: its tables, the lineage of a row, and all answers to one prompt. Opened runs are kept until an
artifact of theirs changes."""

import threading
from pathlib import Path
from typing import NamedTuple

from engine.contract.prompts import Withdrawn
from engine.errors import InputError, MissingArtifact
from engine.records.release import HeldBy
from engine.release.registry import default_registry
from engine.rows import Row
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from jobs.commands.sql import Views
from jobs.commands.trace import as_text, trace
from jobs.commands.withdraw import releases
from jobs.view.found import Found, runs_below
from jobs.view.tables import Table

MOST_OPEN = 8  # runs whose tables are kept open
ANSWERS = "select answer_id, teacher, sample, pool, confidence, answer from candidates where prompt_id = ? order by teacher, sample"
PREDICTIONS = "select model, role, exact, confidence, answer from predictions where prompt_id = ? order by role, model"


class SideBySide(NamedTuple):
    """All that was said to one prompt."""

    prompt: Row
    table: str
    """Where the prompt is: prompts, holdout or dropped."""
    answers: list[Row]
    """Of the teachers."""
    predictions: list[Row]
    """Of every model that answered the holdout."""


class Open:
    """An opened run."""

    def __init__(self, run: Found) -> None:
        """Open the tables of `run`.

        Raises:
            MissingArtifact: no job of it has finished yet.
            StorageError: a record is damaged.
        """
        self.run = run
        self.views = Views(run.folder)
        self.places: dict[str, Artifact] = {}
        for job, artifact in self.views.artifacts.items():
            for name in artifact.record.tables:
                self.places.setdefault(name if "/" not in job else f"{name}@{job}", artifact)
        self._tables: dict[str, Table] = {}
        self._lock = threading.Lock()  # requests are answered by several threads, and a connection by one at a time

    def counts(self) -> dict[str, int]:
        """Return table -> rows; of students' tables the name has the job behind an @."""
        return {name: artifact.table(name.partition("@")[0]).rows for name, artifact in self.places.items()}

    def table(self, name: str) -> Table:
        """Return a table by the name that `counts` gives.

        Raises:
            InputError: the run has no such table, or this page cannot read it.
        """
        if name not in self.places:
            raise InputError(f"{name}: found no such table in {self.run.name}, expected one of {', '.join(self.places)}.")
        if name not in self._tables:
            self._tables[name] = Table(self.places[name], name.partition("@")[0])
        return self._tables[name]

    def lineage(self, row: Row) -> str:
        """Return the way from a row back to the line of its source, as `rayleigh trace` prints it; "" if it has none."""
        wanted = row.get("answer_id") or row.get("example_id") or row.get("chosen_id") or row.get("prompt_id")
        if not wanted:
            return ""
        try:
            return as_text(trace(self.run.folder, str(wanted)))
        except InputError:
            return ""

    def released(self, prompt_id: str) -> list[HeldBy]:
        """Return the releases, in the registry beside the run, whose students learnt from a prompt, or may have."""
        registry = default_registry(Folder(self.run.folder))
        return list(releases(registry, Withdrawn(prompt=prompt_id))) if registry.exists() else []

    def beside(self, prompt_id: str) -> SideBySide | None:
        """Return all answers to a prompt; None if no table has it."""
        for table in ("prompts", "holdout", "dropped"):
            row = self.table(table).row(prompt_id) if table in self.places else None
            if row:
                with self._lock:
                    answers = self.views.rows(ANSWERS, [prompt_id]) if "candidates" in self.places else []
                    predictions = self.views.rows(PREDICTIONS, [prompt_id]) if "predictions" in self.places else []
                return SideBySide(row, table, answers, predictions)
        return None


class Sources:
    """All runs below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self._open: dict[str, tuple[object, Open]] = {}
        self._lock = threading.Lock()

    def runs(self) -> list[Found]:
        """Return the runs that are there now."""
        return runs_below(self.root)

    def found(self, key: str) -> Found:
        """Return a run by the key of its address.

        Raises:
            MissingArtifact: there is none.
        """
        for run in self.runs():
            if run.key == key:
                return run
        raise MissingArtifact(f"{key}: found no such run below {self.root}. The first page lists those that are there.")

    def open(self, key: str) -> Open:
        """Return the opened run; it is opened again after one of its artifacts has changed.

        Raises:
            MissingArtifact: there is no such run, or no job of it has finished.
            StorageError: a record is damaged.
        """
        run = self.found(key)
        stamp = _stamp(Path(run.folder))
        with self._lock:
            kept = self._open.pop(key, None)
            opened = kept[1] if kept and kept[0] == stamp else Open(run)
            self._open[key] = (stamp, opened)
            while len(self._open) > MOST_OPEN:
                self._open.pop(next(iter(self._open)))
        return opened


def _stamp(folder: Path) -> object:
    paths = [path for pattern in ("*", "students/*", "exports/*/*", "search/*/*") for path in folder.glob(f"{pattern}/record.json")]
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in paths))
