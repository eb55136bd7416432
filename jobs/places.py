"""Where run folders, unpacked models and profiles are. Imports nothing heavy, as short commands need no more of a run."""

import os
from pathlib import Path

from engine.errors import ContractError, StorageError
from engine.retry import cannot_open
from engine.storage.folder import Folder

PROFILES = Path(__file__).parents[1] / "cluster" / "profiles"


def run_folder(run: str) -> Folder:
    """Return the folder of a run: an fsspec URL, or a local path made absolute, as workers have another working directory.

    Raises:
        StorageError: the URL cannot be opened.
    """
    try:
        return Folder(run if "://" in run else str(Path(run).expanduser().absolute()))
    except (ValueError, ImportError) as error:
        raise StorageError(f"{run}: cannot be opened: {cannot_open(error)}.") from None


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
        names = ", ".join(sorted(file.stem for file in PROFILES.glob("*.yaml"))) or f"none, {PROFILES} is not there"
        raise ContractError(f"--profile {name}: there is no such profile. Known: {names}. Or give the path of a YAML file.")
    return path
