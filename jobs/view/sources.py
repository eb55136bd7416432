"""What the page reads of a run: its tables, the lineage of a row, and all answers to one prompt. Opened runs are kept until an
artifact of theirs changes."""

import threading
import time
import weakref
from pathlib import Path
from typing import NamedTuple

from engine.contract.prompts import Withdrawn
from engine.errors import InputError, MissingArtifact
from engine.records.release import HeldBy
from engine.release.registry import default_registry
from engine.rows import VERSION, Row
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.commands.sql import Views
from jobs.commands.sql import finished as finished_artifacts
from jobs.commands.trace import as_text, trace_in
from jobs.commands.withdraw import releases
from jobs.view.found import Found, finished, runs_below
from jobs.view.tables import Table

MOST_OPEN = 8  # runs whose tables are kept open
FRESH = 5  # seconds for which a run behind a URL is not asked again whether it has changed
MOST_BESIDE = 200  # answers to one prompt that are shown


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
        self.run, self.artifacts = run, finished_artifacts(run.folder)
        self.places: dict[str, Artifact] = {}
        for job, artifact in self.artifacts.items():
            for name in artifact.record.tables:
                self.places.setdefault(name if "/" not in job else f"{name}@{job}", artifact)
        self._tables: dict[str, Table] = {}
        self._views: _Views | None = None
        self._lock = threading.RLock()  # requests are answered by several threads, and a connection by one at a time

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
            artifact, table = self.places[name], name.partition("@")[0]
            is_older = artifact.table(table).schema_version < VERSION
            self._tables[name] = Table(artifact, table, migrated=self._opened_views().migrated if is_older else "")
        return self._tables[name]

    def lineage(self, row: Row) -> str:
        """Return the way from a row back to the line of its source, as `rayleigh trace` prints it; "" if it has none."""
        wanted = row.get("answer_id") or row.get("example_id") or row.get("chosen_id") or row.get("prompt_id")
        if not wanted:
            return ""
        try:
            with self._lock:
                return as_text(trace_in(self._opened_views(), str(wanted)))
        except InputError:
            return ""

    def _opened_views(self) -> "_Views":
        """Return what a lineage is read from; it is opened when the first is asked for, as the page of a table needs none."""
        with self._lock:
            self._views = self._views or _Views(self)
            return self._views

    def close(self) -> None:
        """Close the connections: one that reads by a file system of Python must not outlive the interpreter."""
        with self._lock:
            for table in self._tables.values():
                table.connection.close()
            if self._views:
                self._views.connection.close()

    def released(self, prompt_id: str) -> list[HeldBy]:
        """Return the releases, in the registry beside the run, whose students learnt from a prompt, or may have."""
        registry = default_registry(Folder(self.run.folder))
        return list(releases(registry, Withdrawn(prompt=prompt_id))) if registry.exists() else []

    def beside(self, prompt_id: str) -> SideBySide | None:
        """Return all answers to a prompt; None if no table has it."""
        for table in ("prompts", "holdout", "dropped"):
            row = self.table(table).row(prompt_id) if table in self.places else None
            if row:
                answers = sorted(self._answers("candidates", prompt_id), key=lambda each: (each["teacher"], each["sample"]))
                predictions = sorted(self._answers("predictions", prompt_id), key=lambda each: (each["role"], each["model"]))
                return SideBySide(row, table, answers, predictions)
        return None

    def _answers(self, table: str, prompt_id: str) -> list[Row]:
        return self.table(table).find("prompt_id", prompt_id, MOST_BESIDE) if table in self.places else []


class _Views(Views):
    """The views of a run, which looks rows up by the Bloom filters of its tables."""

    def __init__(self, opened: Open) -> None:
        super().__init__(opened.run.folder)
        self.opened = opened

    def row(self, table: str, column: str, value: str) -> Row | None:
        if table not in self.opened.places:
            return super().row(table, column, value)
        return next(iter(self.opened.table(table).find(column, value, 1)), None)

    def ids(self, table: str, column: str, start: str) -> list[str]:
        return [start] if self.row(table, column, start) else []  # the page asks for whole ids alone


class Sources:
    """All runs below a folder."""

    def __init__(self, root: Path | str) -> None:
        """Look below `root`, a local folder or an fsspec URL.

        Raises:
            StorageError: the URL cannot be opened.
        """
        self.root = places.run_folder(str(root))
        self._known: dict[str, Found] = {}
        self._open: dict[str, tuple[object, float, Open]] = {}
        self._opened = weakref.WeakSet[Open]()
        """Also those that were replaced or pushed out, which a request may still read."""
        self._lock = threading.Lock()

    def runs(self) -> list[Found]:
        """Return the runs that are there now."""
        found = runs_below(self.root)
        self._known = {run.key: run for run in found}
        return found

    def found(self, key: str) -> Found:
        """Return a run by the key of its address.

        Raises:
            MissingArtifact: there is none.
        """
        known = self._known.get(key)
        if known and (self._is_fresh(key) or Folder(known.folder).exists(workspace.RUN)):
            return known
        self.runs()
        if key in self._known:
            return self._known[key]
        raise MissingArtifact(f"{key}: found no such run below {self.root}. The first page lists those that are there.")

    def open(self, key: str) -> Open:
        """Return the opened run; it is opened again after one of its artifacts has changed.

        Raises:
            MissingArtifact: there is no such run, or no job of it has finished.
            StorageError: a record is damaged.
        """
        run = self.found(key)
        kept = self._open.get(key)
        if kept and self._is_fresh(key):
            return kept[2]
        folder = Folder(run.folder)
        folder.fs.invalidate_cache()
        stamp = finished(folder)
        with self._lock:
            kept = self._open.pop(key, None)
            opened = kept[2] if kept and kept[0] == stamp else Open(run)
            self._opened.add(opened)
            self._open[key] = (stamp, time.monotonic(), opened)
            while len(self._open) > MOST_OPEN:
                self._open.pop(next(iter(self._open)))
        return opened

    def forget(self, key: str) -> None:
        """Let the run be opened again: something was written into it."""
        with self._lock:
            self._open.pop(key, None)

    def close(self) -> None:
        """Close all opened runs; nothing may be asked any more."""
        for opened in list(self._opened):
            opened.close()

    def _is_fresh(self, key: str) -> bool:
        """Return whether a run behind a URL was asked a moment ago; a local folder is asked each time."""
        kept = self._open.get(key)
        return not self.root.is_local and kept is not None and time.monotonic() - kept[1] < FRESH
