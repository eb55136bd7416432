"""What `rayleigh serve` sets before anything imports torch: an OpenMP that is loaded reads its variables no more."""

import os

from engine.contract.profile import Pool, Profile, load_profile
from engine.distributed.environment import server_environment
from engine.errors import InputError, MissingArtifact
from engine.records.release import ReleaseManifest
from engine.release.registry import RELEASE, Registry
from engine.storage.folder import Folder
from jobs import places
from jobs.terminal.environment import set_environment


def release_of(place: Folder) -> tuple[Folder, str]:
    """Return the folder of a release and its student: of `place` itself, or of the champion if it is a contract in a registry.

    Raises:
        MissingArtifact: it is neither, or there is no champion.
    """
    if place.exists(RELEASE):
        return place, ReleaseManifest.model_validate_json(place.read(RELEASE)).student
    parent, _, name = place.url.rpartition("/")
    champion = Registry(Folder(parent or "."), name).champion
    if champion is None:
        raise MissingArtifact(f"{place}: is no release, and no contract with a champion. Promote one: rayleigh promote RUN.")
    return place / champion.release, champion.student


def prepare(place: str, profile_name: str) -> tuple[Folder, Profile, Pool]:
    """Set the variables of the process for the engine of the release `place`; return its folder, the profile, and its pool.

    The pool is that with which the student was evaluated.

    Raises:
        ContractError: there is no such profile.
        InputError: the pool has several pipeline stages.
        MissingArtifact: there is no release.
    """
    profile = load_profile(places.profile_path(profile_name))
    folder, student = release_of(places.run_folder(place))
    pool = profile.evaluator_of(student)
    if pool.pipeline > 1:
        found = f"found {pool.pipeline} stages of the evaluator"
        raise InputError(f"profile {profile.name}: {found}; a server's engine is one process, so `pipeline` must be 1.")
    os.environ.update(server_environment(pool, os.environ))
    set_environment(profile)
    return folder, profile, pool
