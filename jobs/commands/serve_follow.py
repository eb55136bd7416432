"""`rayleigh serve REGISTRY/CONTRACT`: what the server asks the registry, and how it makes the next deployment ready."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from engine.contract.profile import Profile
from engine.errors import InputError
from engine.release.registry import RELEASE, Registry
from engine.retry import no_waiting
from engine.storage.folder import Folder
from jobs import places
from jobs.commands import serve_cascade
from jobs.steps.deployed import deployment_of

if TYPE_CHECKING:
    from engine.serving.build import Plan
    from engine.serving.follower import Follower
    from engine.serving.service import Service


class Followed(NamedTuple):
    """How the first deployment is served; the next ones are served alike."""

    plan: "Plan"
    cascade: serve_cascade.Order
    keep: bool
    """Whether the champion before stays loaded."""


class ChampionOf:
    """Says which release is the champion of a contract; the registry's files are read when there is a new event alone."""

    def __init__(self, place: Folder) -> None:
        parent, _, name = place.url.rpartition("/")
        self.place, self.registry = place, Registry(Folder(parent or "."), name)
        self.latest, self.release = "", ""

    def __call__(self) -> str | None:
        """Return the folder of the champion's release; None if there is no champion.

        Raises:
            StorageError: an event cannot be read.
        """
        with no_waiting():  # it is asked again soon, and a server that ends waits for it
            return self._release()

    def _release(self) -> str | None:
        if (latest := self.registry.latest()) != self.latest or not self.release:
            champion = self.registry.champion
            self.release = (self.place / champion.release).url if champion else ""
            self.latest = latest
        return self.release or None


def follower(place: str, followed: Followed, profile: Profile, say: Callable[[str], None]) -> "Follower | None":
    """Return what swaps the champion of the contract `place`; None if it is the folder of a release, which stays."""
    from engine.serving.follower import Follower

    folder = places.run_folder(place)
    if folder.exists(RELEASE):
        return None
    say(f"follows {folder}: a promotion or a rollback takes effect without a restart")

    def prepare(url: str, running: "Service") -> "Service":
        with no_waiting():  # the follower tries again
            return _prepared(url, running, followed, profile, say)

    return Follower(ChampionOf(folder), prepare, keep=followed.keep)


def _prepared(url: str, running: "Service", followed: Followed, profile: Profile, say: Callable[[str], None]) -> "Service":
    """Return a service of the release `url`, not started.

    Raises:
        InputError: the certificate of the cascade is not one of this release; something else of the server's options does not fit.
        ModelError: the fallback cannot be asked.
        StorageError: the manifest or the cascade's file cannot be read.
    """
    from engine.serving.build import beside
    from engine.serving.task import output_of
    from jobs.commands.serve import check_units

    deployment = deployment_of(Folder(url))
    check_units(deployment)
    plan, student = followed.plan, deployment.manifest.student.name
    if plan.keeping and set(deployment.redact) != set(plan.deployment.redact):
        raise InputError(f"{url}: replaces other kinds of personal data than the records of this server do. Start it anew.")
    pool = profile.evaluator_of(student)
    if pool.pipeline > 1:
        raise InputError(f"profile {profile.name}: found {pool.pipeline} stages of {student}, expected `pipeline: 1`.")
    chosen = serve_cascade.choose(deployment, profile, followed.cascade, say)
    plan = replace(plan, deployment=deployment, pool=pool)
    if chosen:
        plan = replace(plan, router=chosen.router, fallback=chosen.fallback, niche=chosen.niche)
    for unit in deployment.units.values():
        output_of("{}", "stop", unit)  # checking a schema for the first time takes long
    return beside(plan, running)
