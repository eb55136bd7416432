"""`rayleigh serve --cascade`: the certificate is held against the release, and the fallback is found."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import ValidationError

from engine.contract.models import EndpointModel, FakeModel, LlamaCppModel, VllmModel
from engine.contract.profile import Profile
from engine.errors import InputError, StorageError
from engine.evaluation.evaluator import EvalTarget
from engine.inference.locate import locate
from engine.records.certificate import CascadeResult, Certificate
from engine.records.release import ReleaseManifest
from engine.release.registry import RELEASE
from engine.serving.cascade_router import CascadeRouter, router_of
from engine.serving.deployment import Deployment, certified_part
from engine.serving.fallback import Fallback
from engine.serving.niche_engine import Checked
from engine.storage.folder import Folder
from jobs import places
from jobs.commands.cascade_niche import read_niche

VERSION = CascadeResult.model_fields["version"].default
Below = Literal["teacher", "abstain"]


class Order(NamedTuple):
    """What is asked for."""

    file: str | None = None
    """A `cascade.json`; None = every answer of the student is given."""
    below: Below | None = None
    """What happens below the threshold; None = the teacher of the manifest is asked if it can be."""
    with_teacher: bool = False
    """Whether a teacher that is no endpoint is loaded by this server."""
    local: bool = False
    """Whether the server is one process."""


class Chosen(NamedTuple):
    """How requests are routed."""

    router: CascadeRouter
    fallback: Fallback | None
    niche: Checked | None = None


def choose(deployment: Deployment, profile: Profile, order: Order, say: Callable[[str], None]) -> Chosen | None:
    """Return the router by the certificate in the file of `order`, and who answers below its threshold; None without a file.

    Raises:
        InputError: the certificate is of another deployment or holdout, or options contradict each other.
        ModelError: the teacher's weights are not on this machine.
        StorageError: the file is missing or damaged.
    """
    if order.file is None:
        if order.below is not None or order.with_teacher:
            raise InputError("--fallback and --with-teacher: are for a cascade; name its file with --cascade FILE.")
        return None
    found, certificate = certified_in(order.file, deployment)
    fallback, why = _fallback(deployment, profile, order)
    name = fallback.target.name if fallback else None
    below = f"{name} is asked" if name else f"the server abstains, as {why}"
    if certificate.threshold is None:
        say(f"cascade: the student never answers, no threshold was certified: {certificate.reason}; {below}")
    else:
        say(f"cascade: the student answers from confidence {certificate.threshold:.3f} on: {certificate.guarantee} Below, {below}")
    if found.niche is None:
        say("cascade: every request counts as inside the niche; `rayleigh cascade RUN --niche` certifies with a check")
        return Chosen(router_of(certificate, name), fallback)
    beside = Folder(places.run_folder(order.file).url.rpartition("/")[0])
    checked = read_niche(found.niche, beside, profile.weights_cache)
    becomes = "handed on" if checked.section.outside == "hand_on" and name else "abstained on"
    share = f"{sum(found.niche.outside.values())} of {found.niche.rows} prompts of the holdout were"
    say(f"cascade: a request outside the niche is {becomes}; {share}")
    return Chosen(router_of(certificate, name, checked.section), fallback, checked)


def certified_in(file: str, deployment: Deployment) -> tuple[CascadeResult, Certificate]:
    """Return the content of a `cascade.json`, and its certificate of the student of `deployment`.

    Raises:
        InputError: it has none, was asked behind another student, or is of another deployment or holdout.
        StorageError: the file is missing or damaged, or of another version.
    """
    found = _read(file)
    student = deployment.manifest.student.name
    again = f"Certify it: rayleigh cascade RUN --stage {student} --stage TEACHER, of the run from which it was promoted."
    certificate = found.certificates.get(student)
    if certificate is None:
        known = ", ".join(found.certificates) or "nobody"
        raise InputError(f"{file}: has certificates of {known}, and the release serves {student!r}. {again}")
    if found.stages[:1] != (student,):
        first = found.stages[0] if found.stages else "another"
        raise InputError(f"{file}: {student!r} was certified on what {first!r} leaves, and here it is asked first. {again}")
    release = ReleaseManifest.model_validate_json(Folder(deployment.folder).read(RELEASE))
    served = certified_part(deployment.manifest)
    if why := certificate.of_another(deployment=served, holdout=release.holdout or None):
        raise InputError(f"{file}: does not hold for {deployment.folder}: {why}. {again}")
    return found, certificate


def _read(file: str) -> CascadeResult:
    """Return the content of a `cascade.json`.

    Raises:
        StorageError: it is missing or damaged, or of another version.
    """
    parent, _, name = places.run_folder(file).url.rpartition("/")
    folder, again = Folder(parent), "Write it again: rayleigh cascade RUN"
    if not folder.exists(name):
        raise StorageError(f"--cascade {file}: there is no such file. {again}.")
    try:
        found = CascadeResult.model_validate_json(folder.read(name))
    except ValidationError as error:
        why = " ".join(str(error).split())[:200]
        raise StorageError(f"--cascade {file}: is no cascade.json: {why}. {again}.") from None
    if found.version != VERSION:
        raise StorageError(f"--cascade {file}: found version {found.version}, this program knows {VERSION}. {again}.")
    return found


def _fallback(deployment: Deployment, profile: Profile, order: Order) -> tuple[Fallback | None, str]:
    """Return who is asked below the threshold, or None and why nobody is."""
    if order.below == "abstain":
        if order.with_teacher:
            raise InputError("--with-teacher: loads a teacher that --fallback abstain does not ask; leave one of them out.")
        return None, "--fallback abstain says"
    target = deployment.fallback()
    if target is None:
        if order.below or order.with_teacher:
            raise InputError(f"{deployment.folder}: its manifest names no teacher that a server can ask; use --fallback abstain.")
        return None, "the manifest names no teacher that a server can ask"
    pool = profile.evaluator_of(target.name)
    if isinstance(target.model, EndpointModel):
        if order.with_teacher:
            raise InputError(f"--with-teacher: {target.name} is behind {target.model.url}, nothing is loaded; leave it out.")
        return Fallback(target, pool), ""
    if not order.with_teacher:
        if order.below:
            raise InputError(f"--fallback teacher: {target.name} is no endpoint; load it beside the student: --with-teacher.")
        return None, f"{target.name} is not loaded (--with-teacher loads it)"
    if not order.local:
        raise InputError("--with-teacher: loads a second engine beside the student, which needs --local.")
    if pool.pipeline > 1:
        raise InputError(f"profile {profile.name}: found {pool.pipeline} stages for {target.name}, expected `pipeline: 1`.")
    return Fallback(target, pool, weights_of(target)), ""


def weights_of(target: EvalTarget) -> str | None:
    """Return the folder of a teacher's weights: a bundled model, or a path from the working directory on.

    Raises:
        ModelError: there is none.
    """
    if isinstance(target.model, FakeModel):
        return None
    assert isinstance(target.model, VllmModel | LlamaCppModel)
    return str(locate(target.model.path, root=".", home=places.models_home()))
