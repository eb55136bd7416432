"""A run folder: opened, locked, and remembered in its `run.json`."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from engine.contract import Contract, Profile, load_contract, load_profile
from engine.errors import ContractError, MissingArtifact, StorageError
from engine.release.registry import default_registry
from engine.runs.job import Job, JobContext
from engine.storage.artifact import ArtifactWriter
from engine.storage.shards import Folder

RUN = "run.json"
PROFILES = Path(__file__).parents[1] / "cluster" / "profiles"


@dataclass(frozen=True)
class Workspace:
    """A run folder with the order that it works on."""

    folder: Folder
    contract: Contract
    contract_path: str
    root: str
    """Folder from which the contract's relative paths start."""
    profile: Profile
    models: str
    """Folder of unpacked models."""

    def context(self, job: Job, *, log: Callable[[str], None], progress: Callable[[str], None]) -> JobContext:
        """Return the bench of `job`."""
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
        """Write `run.json`: the resolved contract, its path and root, the profile, when the run was created."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        if self.folder.exists(RUN):
            created = json.loads(self.folder.read(RUN)).get("created", created)
        raw = {
            "contract": self.contract.model_dump(mode="json"),
            "contract_path": self.contract_path,
            "root": self.root,
            "profile": self.profile.model_dump(mode="json"),
            "created": created,
        }
        self.folder.write(RUN, json.dumps(raw, indent=1).encode())

    def log_path(self) -> Path:
        """Return where this command's log goes: into the run, or for a run behind a URL into the machine's temporary folder."""
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
        return Path(self.folder.path if self.folder.is_local else tempfile.gettempdir(), "logs", name)


def create(path: str, run: str, *, profile: str, changes: Sequence[str]) -> Workspace:
    """Return the workspace in which the contract in the file `path`, with `changes`, is run. Writes nothing.

    Raises:
        ContractError: contract or profile cannot be used as written.
    """
    loaded = load_contract(Path(path), changes)
    return Workspace(
        folder=run_folder(run),
        contract=loaded.contract,
        contract_path=str(Path(path).resolve()),
        root=str(loaded.root),
        profile=load_profile(profile_path(profile)),
        models=models_home(),
    )


def reopen(run: str) -> Workspace:
    """Return the workspace that an earlier `rayleigh run` made.

    Raises:
        MissingArtifact: there is no run in this folder.
        StorageError: its `run.json` is damaged.
    """
    folder = run_folder(run)
    if not folder.exists(RUN):
        raise MissingArtifact(f"{folder}: no run is here, it has no {RUN}. Start one: rayleigh run CONTRACT {run}")
    try:
        raw = json.loads(folder.read(RUN))
        return Workspace(
            folder=folder,
            contract=Contract.model_validate(raw["contract"]),
            contract_path=raw["contract_path"],
            root=raw["root"],
            profile=Profile.model_validate(raw["profile"]),
            models=models_home(),
        )
    except (ValueError, KeyError) as error:
        raise StorageError(f"{folder}/{RUN}: is not what this version writes: {error}. Use a new run folder.") from None


def run_folder(run: str) -> Folder:
    """Return the folder that a person calls `run`: an fsspec URL, or a local path made absolute (workers stand elsewhere)."""
    try:
        return Folder(run if "://" in run else str(Path(run).expanduser().absolute()))
    except (ValueError, ImportError) as error:
        raise StorageError(f"{run}: cannot be opened: {error}.") from None


def registry(given: str | None, run: Folder | None) -> str:
    """Return the registry's folder: as given, or next to the run folder, or in runs/ if there is no run."""
    if given is None and run is not None:
        return default_registry(run).url
    return run_folder(given or "runs/registry").url


def contract_of(name: str) -> tuple[str, Folder | None]:
    """Return the contract's name, and the run folder if `name` was one; else `name` is the contract's."""
    if "/" not in name and not Path(name).is_dir():
        return name, None
    work = reopen(name)
    return work.contract.name, work.folder


def models_home() -> str:
    """Return the folder of unpacked models: $RAYLEIGH_MODELS, or ~/.cache/rayleigh/models."""
    return os.environ.get("RAYLEIGH_MODELS") or str(Path.home() / ".cache" / "rayleigh" / "models")


def profile_path(name: str) -> Path:
    """Return the file of the profile called `name`, which may also be a path.

    Raises:
        ContractError: no profile has that name.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = PROFILES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml"))) or f"none, {PROFILES} is not there"
        raise ContractError(f"--profile {name}: there is no such profile. Known: {known}. Or give the path of a YAML file.")
    return path


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold a local run for one driver; the system releases it even from a killed one. A run behind a URL is not locked.

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
        raise StorageError(f"{folder}: another `rayleigh run` is at work here. Wait for it, or use another folder.") from None
    except (OSError, NotImplementedError) as error:
        raise StorageError(f"{folder}: cannot be written: {error}. Choose a run folder that can be written.") from None
    try:
        yield
    finally:
        lock.release()
