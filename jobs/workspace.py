"""Run folders: creating, opening and locking them, and their `run.json`."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from engine.contract.contract import Contract
from engine.contract.load import load_contract
from engine.contract.profile import Profile, load_profile
from engine.contract.renames import promoted
from engine.contract.sections import is_url, refuse
from engine.contract.unread import unread
from engine.errors import MissingArtifact, StorageError
from engine.records.run import RUN_VERSION, RunRecord
from engine.release.registry import default_registry
from engine.runs.job import Job, JobContext
from engine.storage.artifact import Artifact, ArtifactWriter, load_artifact
from engine.storage.folder import Folder
from jobs.places import models_home, profile_path, run_folder

RUN = "run.json"
NEW_RUN = "Use a new run folder"
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Workspace:
    """A run folder with its contract and profile."""

    folder: Folder
    contract: Contract
    contract_path: str
    root: str
    """Folder or URL from which the contract's relative paths start."""
    profile: Profile
    models: str
    """Folder of unpacked models."""

    def context(self, job: Job, *, log: Callable[[str], None], progress: Callable[[str], None]) -> JobContext:
        """Return the context in which `job` runs."""
        return JobContext(
            job=job,
            contract=self.contract,
            profile=self.profile,
            root=self.root,
            models=self.models,
            run=self.folder,
            writer=ArtifactWriter(self.folder / job.name),
            log=log,
            progress=progress,
        )

    def save(self) -> None:
        """Write `run.json`; the time of creation stays."""
        created = read_run(self.folder).created if self.folder.exists(RUN) else datetime.now(UTC).isoformat(timespec="seconds")
        record = RunRecord(
            version=RUN_VERSION,
            contract=self.contract.model_dump(mode="json"),
            contract_path=self.contract_path,
            root=self.root,
            profile=self.profile.model_dump(mode="json"),
            created=created,
        )
        self.folder.write(RUN, record.model_dump_json(indent=1).encode(), durable=True)

    def log_path(self) -> Path:
        """Return the path of this command's log: in the run folder, or in the temporary folder if the run is behind a URL."""
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
        return Path(self.folder.path if self.folder.is_local else tempfile.gettempdir(), "logs", name)


def create(path: str, run: str | None, *, profile: str, changes: Sequence[str]) -> Workspace:
    """Return the workspace in which the contract at `path`, a file or URL, with `changes`, is run, by default in `runs/NAME`.

    Writes nothing. A run that was begun goes on with settings that nothing reads.

    Raises:
        ContractError: contract or profile cannot be used as written.
    """
    loaded = load_contract(path, changes, is_new=False)
    folder = run_folder(run or f"runs/{loaded.contract.name}")
    if (problems := list(unread(loaded.contract))) and not folder.exists(RUN):
        refuse(problems, where=path)
    return Workspace(
        folder=folder,
        contract=loaded.contract,
        contract_path=path if is_url(path) else str(Path(path).resolve()),
        root=loaded.root,
        profile=load_profile(profile_path(profile)),
        models=models_home(),
    )


def reopen(run: str) -> Workspace:
    """Return the workspace that an earlier `rayleigh run` created; `run.json` of earlier versions is read, too.

    Raises:
        MissingArtifact: there is no run in this folder.
        StorageError: its `run.json` is damaged.
    """
    folder = run_folder(run)
    if not folder.exists(RUN):
        raise MissingArtifact(f"{folder}: no run is here, it has no {RUN}. Start one: rayleigh run CONTRACT {run}")
    record = read_run(folder)
    with _readable(f"{folder}/{RUN}", NEW_RUN):
        contract, profile = Contract.model_validate(promoted(record.contract)[0]), Profile.model_validate(record.profile)
    return Workspace(folder, contract, record.contract_path, record.root, profile, models_home())


def finished(folder: Folder, job: str) -> Artifact:
    """Return the artifact that `job` has made in the run folder `folder`.

    Raises:
        MissingArtifact: the job is not finished.
    """
    artifact = load_artifact(folder / job)
    if artifact is None:
        raise MissingArtifact(f"{folder}/{job}: no finished job has made it. Run the pipeline first: rayleigh run")
    return artifact


def read_run(folder: Folder) -> RunRecord:
    """Return the record of a run.

    Raises:
        StorageError: it is damaged, or of a newer version of this program.
    """
    record = read_model(folder, RUN, RunRecord, advice=NEW_RUN)
    if record.version > RUN_VERSION:
        raise StorageError(
            f"{folder}/{RUN}: found version {record.version}, expected at most {RUN_VERSION}: a newer version of Rayleigh wrote "
            "it. Use that version, or a new run folder."
        )
    return record


def read_model(folder: Folder, name: str, kind: type[M], *, advice: str = "Delete the artifact and run again") -> M:
    """Return the model of class `kind` in the file `name` of `folder`.

    Raises:
        StorageError: the file does not hold one; the message ends with `advice`.
    """
    with _readable(f"{folder}/{name}", advice):
        return kind.model_validate_json(folder.read(name))


@contextmanager
def _readable(path: str, advice: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        why = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise StorageError(f"{path}: cannot be read by this version: {why}. {advice}.") from None


def registry(path: str | None, run: Folder | None) -> str:
    """Return the folder of the registry: `path`, by default next to the run folder, or in runs/ if there is no run."""
    if path is None and run is not None:
        return default_registry(run).url
    return run_folder(path or "runs/registry").url


def contract_of(name: str) -> tuple[str, Folder | None]:
    """Return the name of a contract, and the run folder if `name` is the path of one; otherwise `name` is the contract's."""
    if "/" not in name and not Path(name).is_dir():
        return name, None
    work = reopen(name)
    return work.contract.name, work.folder


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Lock a local run folder for one driver; the system releases the lock of a killed one. A run behind a URL is not locked.

    Raises:
        StorageError: another driver works on it, or the folder cannot be written.
    """
    if not folder.is_local:
        yield
        return
    try:
        Path(folder.path).mkdir(parents=True, exist_ok=True)
        lock = FileLock(Path(folder.path, ".lock"), timeout=0)
        lock.acquire()
    except Timeout:
        raise StorageError(f"{folder}: another `rayleigh run` works in this folder. Wait for it, or use another folder.") from None
    except (OSError, NotImplementedError) as error:
        raise StorageError(f"{folder}: cannot be written: {error}. Choose a run folder that can be written.") from None
    try:
        yield
    finally:
        lock.release()
