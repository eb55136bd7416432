"""`rayleigh watch`: the records of a server as they appear, the monitor of each deployment, and labels of a few requests."""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ValidationError

from engine.checks import is_exact
from engine.contract.serving import Monitor as Section
from engine.contract.specialist import TaskUnit
from engine.errors import InputError, MissingArtifact, StorageError
from engine.inference.locate import locate
from engine.records.report import Report
from engine.records.watch import WatchKept, WatchView
from engine.release.registry import REPORT
from engine.rows import PREDICTION, Row
from engine.serving.monitor_files import FOLDER, KEPT, SUMMARY
from engine.serving.record_files import SHADOW_FOLDER, is_records
from engine.serving.schemas import REQUEST, SHADOW
from engine.serving.tail import Tail
from engine.serving.watch import Given, Kept, Watch
from engine.stats.intervals import Array
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.commands.cascade import holdout_of
from jobs.commands.release import job_of
from jobs.commands.sql import RecordsMoved
from jobs.commands.watch_labels import labelled, read_labels
from jobs.commands.watch_page import write_page
from jobs.steps.deployed import manifest, units_of
from jobs.terminal.watch_text import as_text

EVERY = 2.0  # seconds between two looks
SAVE_EVERY = 10.0  # seconds between two saves


class Order(NamedTuple):
    """What is asked for."""

    run: str | None = None
    """Run folder whose holdout is the baseline."""
    student: str | None = None
    first: int = 500
    labels: str | None = None
    """A file of lines {"request_id": ..., "right": true}."""
    encoder: str | None = None
    """A sentence-transformers model for prompts: the name of a bundled one, or a folder."""
    page: str | None = None
    """A file for the page."""


def watch(records: str, order: Order, show: Callable[[WatchView], None], *, once: bool) -> None:
    """Call `show` with what the records in the folder `records` say: once, or every two seconds until Ctrl-C.

    Raises:
        InputError: a label, the run or its student is wrong; the page cannot be written.
        MissingArtifact: the folder holds no records; the run has no reports.
        StorageError: what is kept of the monitor is damaged, or cannot be written.
    """
    place = places.run_folder(records)
    folder = Path(place.path)
    if not place.is_local or not is_records(folder):
        raise MissingArtifact(f"{place}: holds no records of requests. They are kept by: rayleigh serve ... --records {records}")
    section, given = _baseline(order)
    labels, embed = read_labels(order.labels), _encoder(order.encoder)
    of_labels: dict[str, object] = {}
    with _kept(folder) as (kept, bases, save):
        watched = Watch(section, first=order.first, given=given, kept=Kept(kept, bases, embed))
        tails = Tail(folder, REQUEST, kept.requests), Tail(folder / SHADOW_FOLDER, SHADOW, kept.shadows)
        saved = -SAVE_EVERY
        while True:
            _read(watched, *tails)
            view = watched.view(str(folder))
            is_due = once or time.monotonic() >= saved + SAVE_EVERY
            if is_due:
                for tail in tails:
                    tail.forget()
                saved = time.monotonic()
            try:
                if order.labels is not None:
                    of_labels = labelled(folder, watched.last, labels, section)
                view = view.model_copy(update=of_labels)
                if is_due and order.page:
                    write_page(order.page, folder, view, section)
            except RecordsMoved:
                if once:
                    raise
                view = view.model_copy(update=of_labels)  # those of the last round
            save(watched.kept(tails[0].consumed, tails[1].consumed) if is_due else None, watched.bases(), view)
            show(view)
            if once:
                return
            time.sleep(EVERY)


def _read(watched: Watch, requests: Tail, shadows: Tail) -> None:
    """Read what is new. Comparisons come after their requests, which begin a monitor."""
    for rows in requests.read():
        watched.requests(rows.to_pylist())
    for rows in shadows.read():
        watched.shadows(rows.to_pylist())


def _encoder(model: str | None) -> Callable[[Sequence[str]], Array] | None:
    """Return what embeds prompts.

    Raises:
        ModelError: there is no such model.
    """
    if model is None:
        return None
    from engine.inference.sentence_encoder import SentenceEncoder

    return SentenceEncoder(locate(model, root=".", home=places.models_home()))


Bases = Mapping[str, Array]
Save = Callable[[WatchKept | None, Bases, WatchView], None]


@contextmanager
def _kept(folder: Path) -> Iterator[tuple[WatchKept, Bases, Save]]:
    """Yield what is kept of the monitor, and what keeps it: of several processes that watch, the first one alone does."""
    place, stored = Folder(str(folder / FOLDER)), dict[str, int]()
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        lock: FileLock | None = FileLock(folder / FOLDER / "watch.lock", timeout=0)
        lock.acquire()
    except Timeout:
        lock = None
    except OSError as error:
        raise StorageError(f"{folder / FOLDER}: cannot be written: {error}.") from None

    def save(kept: WatchKept | None, bases: Bases, view: WatchView) -> None:
        if lock is None:
            return
        if kept:
            for name, base in bases.items():
                if len(base) != stored.get(name):  # it grows while it is gathered; older rows stay as they are
                    data = io.BytesIO()
                    np.save(data, base, allow_pickle=False)
                    place.write(f"{name[:16]}.npy", data.getvalue())
                    stored[name] = len(base)
            place.write(KEPT, kept.model_dump_json().encode())
        place.write(SUMMARY, view.model_dump_json(exclude={"to_label"}).encode())

    try:
        kept = _read_kept(place)
        names = [name for name, each in kept.monitors.items() if place.exists(f"{name[:16]}.npy")]
        bases = {name: np.load(io.BytesIO(place.read(f"{name[:16]}.npy")), allow_pickle=False) for name in names}
        stored |= {name: len(base) for name, base in bases.items()}
        yield kept, bases, save
    finally:
        if lock:
            lock.release()


def _read_kept(place: Folder) -> WatchKept:
    if not place.exists(KEPT):
        return WatchKept()
    try:
        kept = WatchKept.model_validate_json(place.read(KEPT))
    except ValidationError as error:
        why = " ".join(str(error).split())[:200]
        raise StorageError(f"{place}/{KEPT}: is damaged: {why}. Remove it: all records are read again.") from None
    if kept.version != WatchKept().version:
        raise StorageError(f"{place}/{KEPT}: found version {kept.version}. Remove it: all records are read again.")
    return kept


def _baseline(order: Order) -> tuple[Section, Given | None]:
    """Return the contract's section, and the baseline of a student's holdout; defaults and None without a run."""
    if order.run is None:
        return Section(), None
    work = workspace.reopen(order.run)
    serving = work.contract.serving
    section = (serving and serving.monitor) or Section()
    reports = workspace.finished(work.folder, "reports")
    report = workspace.read_model(reports.folder, REPORT, Report)
    students = [model.name for model in report.models if model.role == "student"]
    name = order.student or (students[0] if len(students) == 1 else "")
    if name not in students:
        raise InputError(f"{order.run}: found --student {order.student or 'none'}, expected one of {students}.")
    table = reports.read("predictions", PREDICTION)
    rows: list[Row] = table.to_pylist()
    compared = report.model(name).against_teacher
    teacher = {row["prompt_id"]: row for row in rows if compared and row["model"] == compared.teacher}
    units = units_of(work.contract)
    mine = sorted((row for row in rows if row["model"] == name), key=lambda row: row["prompt_id"])
    holdout = holdout_of(table, name, work)
    student = workspace.finished(work.folder, job_of(name))
    packages = reports.record.packages
    fingerprint = manifest(work.contract, name, student.record.files, packages, report).fingerprint
    found = [
        {"confidence": row["confidence"], "text": row["answer"], "prompt": row["text"], "agrees": _agrees(row, teacher, units)}
        for row in mine
        if row["finish_reason"] == "stop"
    ]
    labels = [label for row, label in zip(mine, holdout.labels, strict=True) if row["finish_reason"] == "stop"]
    return section, Given(fingerprint, f"the holdout of {order.run}", found, labels)


def _agrees(row: Row, teacher: dict[str, Row], units: dict[str, TaskUnit]) -> bool | None:
    other = teacher.get(row["prompt_id"])
    if other is None or other["finish_reason"] != "stop":
        return None
    return is_exact(row["answer"], other["answer"], units[row["task_unit"]].output.json_schema)


__all__ = ["Order", "as_text", "watch"]
