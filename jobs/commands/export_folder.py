"""The folder of an export: whole or not there, and pushed to a hub if that is asked for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from engine.errors import InputError, StorageError


def final_folder(out: str) -> Path:
    """Return the absolute path of `out`.

    Raises:
        InputError: it is a URL, a file, the current folder, or one that is not empty.
    """
    if "://" in out:
        raise InputError(f"export {out}: found a URL, expected a folder on a disk; copy it from there.")
    target = Path(os.path.abspath(Path(out).expanduser()))
    if target == Path.cwd():
        raise InputError(f"export {out}: is the current folder, which would be replaced under your shell. Name another one.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"export {out}: exists and is not empty, expected a new folder. Nothing is overwritten.")
    return target


@contextmanager
def whole_folder(target: Path, out: str) -> Iterator[Path]:
    """Yield a new folder that becomes `target`, which a user called `out`, if nothing is raised, and is removed otherwise.

    Raises:
        StorageError: it cannot be written.
    """
    part = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        yield part
        os.replace(part, target)  # onto an empty folder, or none; another process's full folder refuses it
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{out}: cannot be written: {error}. Make room, or choose another folder.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def push(folder: Path, repository: str) -> str:
    """Upload a finished folder as a private dataset repository, and return its URL; the token is that of `hf auth login`.

    Raises:
        StorageError: the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        api = HfApi()
        url = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, repo_type="dataset", commit_message="Written by rayleigh export")
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise StorageError(f"--push {repository}: the hub refuses: {error}. The folder {folder} is whole; push it later.") from None
    return str(url)
