"""Puts a release into a registry: whole or not at all on a disk; in an object store in place, `release.json` last.

A release that is there is used only if every file of it is what this promotion would write. Else it was damaged, or is of an
earlier report or version, and is written again: on a disk beside it, and then in its place. In a store nothing is removed when a
promotion fails, as another process may be writing the same release: without `release.json` it counts for nothing.
"""

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from pydantic import ValidationError

from engine.errors import StorageError
from engine.records.record import FileEntry
from engine.records.release import ReleaseManifest
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder

RELEASE = "release.json"
CHUNK = 2**22  # bytes
ATTEMPTS = 3  # to write a release that another process writes, too


class Package(NamedTuple):
    """What a release holds besides the model's weights."""

    student: str  # or its export, such as s.q8_0
    fingerprint: str
    files: Mapping[str, str | bytes]  # file name -> content; `learnt.FILE` among them is what it learnt from
    holdout: str = ""  # hash of the prompts on which it was evaluated


def land(artifact: Artifact, package: Package, target: Folder) -> None:
    """Write the release `target`, unless it is there as it should be. What was written is read once more.

    Raises:
        StorageError: a file does not match the record of `artifact`, or `target` cannot be written, or other processes write it.
    """
    models = sorted((file for file in artifact.record.files if file.path.startswith("model/")), key=lambda file: file.path)
    if not models:
        raise StorageError(f"{artifact.folder}: its record lists no file below model/. Delete the artifact and run again.")
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in sorted(package.files.items())}
    entries = (*models, *(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()))
    manifest = ReleaseManifest(student=package.student, fingerprint=package.fingerprint, files=entries, holdout=package.holdout)
    for _ in range(ATTEMPTS):
        if _is_whole(target, manifest):
            return
        _write(artifact, contents, manifest, target)
    if not _is_whole(target, manifest):
        raise StorageError(f"{target}: was changed while it was written. Does another process promote, too? Promote again.")


def _is_whole(target: Folder, manifest: ReleaseManifest) -> bool:
    """Return whether the release is complete, of `manifest`, and each of its files what that says."""
    if not target.exists(RELEASE):
        return False
    try:
        if ReleaseManifest.model_validate_json(target.read(RELEASE)) != manifest:
            return False
        present = {name for name in target.files() if name.startswith("model/")}
        listed = {file.path for file in manifest.files if file.path.startswith("model/")}
        return present == listed and all(target.measure(file.path) == file for file in manifest.files)
    except (ValidationError, StorageError, OSError):  # damaged, or another process puts its own in its place
        return False


def _write(artifact: Artifact, contents: Mapping[str, bytes], manifest: ReleaseManifest, target: Folder) -> None:
    """Copy the model folder and write the other files; `release.json` is written last."""
    models = [file for file in manifest.files if file.path not in contents]
    place = Folder(f"{target.url}.{uuid.uuid4().hex[:8]}.part") if target.is_local else target
    for stray in {name for name in place.files() if name.startswith("model/")} - {file.path for file in models}:
        place.remove(stray)  # in place, where another process may write the same files: nothing else is removed
    try:
        for file in models:
            _copy_file(artifact.folder, place, file)
        for name, data in contents.items():
            place.write(name, data)
        place.write(RELEASE, manifest.model_dump_json(indent=1).encode())
        if target.is_local:
            _move(place, target, manifest)
    finally:
        if target.is_local:
            place.remove()


def _move(place: Folder, target: Folder, manifest: ReleaseManifest) -> None:
    """Give a complete copy its name, unless another process has done so. What has the name already is removed afterwards."""
    if _is_whole(target, manifest):
        return
    aside = Folder(f"{target.url}.{uuid.uuid4().hex[:8]}.part")
    with suppress(OSError):  # there is none, or another process moved it
        target.rename_to(aside)
    try:
        place.rename_to(target)
    except OSError:
        if not target.exists(RELEASE):
            raise
    finally:
        aside.remove()


def _copy_file(source: Folder, target: Folder, file: FileEntry) -> None:
    """Copy one file in chunks.

    Raises:
        StorageError: it cannot be copied, or its content is not that of `file`.
    """
    destination = f"{target.path}/{file.path}"

    def copied() -> str:
        digest = hashlib.sha256()
        target.fs.makedirs(destination.rpartition("/")[0], exist_ok=True)
        with source.open(file.path) as reader, target.fs.open(destination, "wb") as writer:
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                writer.write(chunk)
        return digest.hexdigest()

    try:
        found = target.with_retries(file.path, copied)
    except OSError as error:
        raise StorageError(f"{source}/{file.path}: cannot be copied to {target}: {error}. Make room, or choose another.") from None
    if found != file.sha256:
        raise StorageError(
            f"{source}/{file.path}: found sha256 {found[:16]}, its record says {file.sha256[:16]}. "
            "The file was changed after training: delete the artifact and run again."
        )
