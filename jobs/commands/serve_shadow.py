"""`rayleigh serve --shadow`: which models answer in shadow, by which rules they are compared, and where the events go."""

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from engine.contract.contract import Contract
from engine.contract.models import EndpointModel
from engine.contract.profile import Profile
from engine.contract.renames import promoted
from engine.contract.serving import Shadow as Section
from engine.errors import InputError
from engine.records.shadow import ShadowState, ShadowView
from engine.release.registry import CONTRACT
from engine.release.shadow_events import ShadowEvents
from engine.serving.deployment import Deployment, fingerprint_of
from engine.serving.fallback import Fallback, Final
from engine.serving.record_files import SHADOW_FOLDER
from engine.storage.folder import Folder
from jobs import places
from jobs.commands.serve_cascade import weights_of
from jobs.commands.serve_environment import release_of
from jobs.steps.deployed import deployment_of

if TYPE_CHECKING:
    from engine.serving.build import Plan
    from engine.serving.shadow_run import ShadowRun
    from engine.serving.shadow_side import Side

TEACHER = "teacher"
SLACK, PATIENCE = 2.0, 3.0  # of the users' deadline: for an answer in shadow, and until a silent engine is killed
Reference = Literal["teacher", "champion"]


class Order(NamedTuple):
    """What is asked for."""

    model: str | None = None
    """The folder of a release or `teacher`; None = nothing is compared."""
    share: float | None = None
    """Of requests; None = what the contract says."""
    reference: Reference | None = None
    """Whose answer counts as right; None = the teacher if it is behind an endpoint, else the champion."""


def shadow_run(plan: "Plan", order: Order, profile: Profile, final: Final, say: Callable[[str], None]) -> "ShadowRun | None":
    """Return what compares in shadow; None if nothing was asked for.

    Raises:
        InputError: there is no such model, or nowhere to keep rows.
        ModelError: the teacher's weights are not on this machine, or the key of its endpoint is not set.
        StorageError: the challenger's manifest cannot be read; the folder of the records cannot be written.
    """
    if order.model is None:
        if order.share is not None or order.reference:
            raise InputError("--shadow-share and --shadow-reference: are for a shadow; name who answers in it with --shadow.")
        return None
    if plan.keeping is None:
        raise InputError("--shadow: keeps a row for each comparison; name a folder with --records FOLDER.")
    from engine.serving.recorder import Recorder
    from engine.serving.schemas import SHADOW
    from engine.serving.shadow_run import ShadowRun
    from engine.serving.shadow_state import StateFile

    section = _section(plan.deployment, order)
    challenger = None if order.model == TEACHER else _challenger(plan, order.model, profile, final)
    reference = _reference(plan, order, profile, final)
    folder = plan.keeping.folder / SHADOW_FOLDER
    files = StateFile(folder)
    recorder = Recorder(plan.keeping._replace(folder=folder, sample=1.0), SHADOW)
    who = f"{challenger.name} ({challenger.fingerprint[:16]})" if challenger else "the champion"
    whom = reference.name if reference else "the champion"
    say(f"shadow: {who} is compared with {whom} on {section.share:g} of the requests; floor {section.floor:g}")
    return ShadowRun(section, challenger, reference, recorder, files, _report(plan.deployment, say))


def _section(deployment: Deployment, order: Order) -> Section:
    folder = Folder(deployment.folder)
    serving = None
    if folder.exists(CONTRACT):
        serving = Contract.model_validate(promoted(json.loads(folder.read(CONTRACT)))[0]).serving
    section = (serving and serving.shadow) or Section()
    return section if order.share is None else section.model_copy(update={"share": order.share})


def _challenger(plan: "Plan", place: str, profile: Profile, final: Final) -> "Side":
    from dataclasses import replace

    from engine.serving.build import engine_of
    from engine.serving.router import AlwaysAnswer
    from engine.serving.shadow_side import Side, start_engine

    folder, student = release_of(places.run_folder(place))
    deployment = deployment_of(folder)
    if {name: unit.output for name, unit in deployment.units.items()} != {
        name: unit.output for name, unit in plan.deployment.units.items()
    }:
        raise InputError(f"--shadow {place}: has other task units than {plan.deployment.folder}; their answers cannot be compared.")
    if deployment.fingerprint == plan.deployment.fingerprint:
        raise InputError(f"--shadow {place}: is the deployment that answers; name another release, or `{TEACHER}`.")
    pool = profile.evaluator_of(student)
    model = Fallback(deployment.student(packages=plan.packages), pool)
    load = engine_of(replace(plan, deployment=deployment, pool=pool, router=AlwaysAnswer(), fallback=None))
    seconds = plan.limits.deadline
    start = partial(start_engine, model, final, load, PATIENCE * seconds)
    return Side(deployment.manifest.student.name, deployment.fingerprint, start, SLACK * seconds)


def _reference(plan: "Plan", order: Order, profile: Profile, final: Final) -> "Side | None":
    """Return the teacher of the manifest, or None if the champion is the reference."""
    from engine.serving.fallback import load_local
    from engine.serving.shadow_side import Side, start_endpoint, start_engine

    target, asked = plan.deployment.fallback(), plan.deployment.manifest.fallback
    is_needed = order.model == TEACHER or order.reference == TEACHER
    if order.model == TEACHER and order.reference == "champion":
        raise InputError("--shadow teacher: the champion is compared with the teacher; leave --shadow-reference out.")
    if target is None or asked is None:
        if is_needed:
            raise InputError(f"{plan.deployment.folder}: its manifest names no teacher that a server can ask.")
        return None
    is_remote = isinstance(target.model, EndpointModel)
    if not is_needed and (order.reference == "champion" or not is_remote):
        return None
    model = Fallback(target, profile.evaluator_of(target.name), None if is_remote else weights_of(target))
    seconds, fingerprint = plan.limits.deadline, fingerprint_of(asked.model_dump(mode="json"))
    engine = partial(start_engine, model, final, partial(load_local, model), PATIENCE * seconds)
    return Side(target.name, fingerprint, partial(start_endpoint, model, final) if is_remote else engine, SLACK * seconds)


def _report(deployment: Deployment, say: Callable[[str], None]) -> Callable[[ShadowState, ShadowView, Section], None]:
    """Return what writes an event into the registry in which the release is, if it is in one."""
    contract, _, _ = deployment.folder.rpartition("/releases/")
    is_there = bool(contract) and Folder(contract).exists("history")
    if not is_there:
        say("shadow: the release is in no registry, so that changes of state are in the log and in the records alone")
    registry, _, name = contract.rpartition("/")
    events = ShadowEvents(Folder(registry or "."), name)

    def report(state: ShadowState, view: ShadowView, section: Section) -> None:
        say(f"shadow: {state.word}: {view.because}")
        if is_there:
            events.add(state, view, section)

    return report
