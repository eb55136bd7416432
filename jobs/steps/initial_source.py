"""Where a student's initial weights lie: a model's folder, or a release of the registry."""

from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from engine.contract.init import ChampionRelease
from engine.contract.students import Student
from engine.errors import MissingArtifact, ModelError, StorageError
from engine.inference.weights import Weights, described
from engine.readers.below import below
from engine.records.base import Json
from engine.release.registry import Registry, default_registry
from engine.runs.job import JobContext
from engine.storage.folder import Folder
from engine.students.init.prune import check_layers, count_layers
from jobs.steps.models import found, named


def place(context: JobContext, student: Student) -> Weights:
    """Return where the model lies that `student` begins with.

    Raises:
        ModelError: it is not there.
    """
    if student.init.champion:
        return found(context, _champion(context, student.init.champion).place)
    assert student.init.source is not None, "every other kind has one"
    return found(context, student.init.source)


def folder(context: JobContext, student: Student) -> Path:
    """Return the folder of the model that `student` begins with; of one behind a URL, a folder without its weights.

    Raises:
        ModelError: it is not there.
        StorageError: it cannot be fetched.
    """
    return described(place(context, student))


def layers(student: Student, source: Path) -> list[int]:
    """Return the decoder layers of the model in the folder `source` that `student` keeps.

    Raises:
        ModelError: a layer is not there, or the folder's configuration does not say how many there are.
    """
    count = count_layers(source)
    if student.init.layers is None:
        return list(range(count))
    check_layers(student.init.layers, count, source)
    return list(student.init.layers)


def identity(context: JobContext) -> Json:
    """Return the fingerprint of the release that the job's student begins with.

    Raises:
        MissingArtifact: the release is not there.
    """
    name = context.job.name.rpartition("/")[2]
    return {"champion": releases(context)[name]}


def releases(context: JobContext) -> Json:
    """Return student -> fingerprint of the release that it begins with.

    Raises:
        MissingArtifact: a release is not there.
    """
    try:
        champions = {one.name: one.init.champion for one in context.contract.students if one.init.champion}
        return {name: _champion(context, section).fingerprint for name, section in champions.items()}
    except ModelError as error:  # an artifact whose source was removed later is still finished
        raise MissingArtifact(str(error)) from None


class Released(NamedTuple):
    """The model of a release."""

    place: str
    """Path or URL of its folder."""
    fingerprint: str


def release(section: ChampionRelease, *, run: Folder | None, contract: str, root: str) -> Released:
    """Return the model of the release that `section` names; without names, of the champion of `contract` next to `run`.

    Raises:
        ModelError: there is no such release.
    """
    if section.registry is None:
        assert run is not None, "the default registry is next to a run"
        champions = default_registry(run)
    else:
        champions = Folder(below(root, section.registry))
    registry = Registry(champions, section.contract or contract)
    try:
        champion, events = registry.champion, {event.fingerprint: event for event in registry.history()}
    except (StorageError, ValidationError) as error:
        raise ModelError(str(error)) from None
    wanted = section.version or (champion.fingerprint if champion else "none")
    wanted_events = [event for fingerprint, event in events.items() if fingerprint.startswith(wanted)]
    if len(wanted_events) != 1:
        known = ", ".join(f"{event.fingerprint[:12]} ({event.student})" for event in events.values()) or "none"
        raise ModelError(
            f"{registry.folder} has {len(wanted_events)} releases of {section.version or 'a champion'}, expected one; known: "
            f"{known}. Promote a student first (rayleigh promote RUN), or name another registry, contract or version."
        )
    [event] = wanted_events
    return Released(named(registry.model_folder(event)), event.fingerprint)


def _champion(context: JobContext, section: ChampionRelease) -> Released:
    return release(section, run=context.run, contract=context.contract.name, root=context.root)
