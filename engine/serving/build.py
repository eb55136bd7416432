"""Puts a server together from plain picklable values: in the process that listens, or in a replica."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from engine.contract.models import Model
from engine.contract.profile import Pool
from engine.contract.specialist import TaskUnit
from engine.evaluation.evaluator import greedy, within_positions
from engine.evaluation.size import model_size
from engine.inference.batcher import Answers
from engine.inference.engine import build_model
from engine.serving.app import App, Options
from engine.serving.body import Limits
from engine.serving.deployment import MODEL, Deployment, verified
from engine.serving.fallback import EndpointHandler, Fallback, LocalHandler, load_local
from engine.serving.recorder import Keeping, Recorder
from engine.serving.router import AlwaysAnswer, Router
from engine.serving.service import Service, warm_up
from engine.serving.turns import Turns
from engine.serving.worker import Load, Worker
from engine.storage.folder import Folder
from engine.storage.local_copy import local_copy


@dataclass(frozen=True)
class Plan:
    """What is served, and how; picklable."""

    deployment: Deployment
    pool: Pool
    limits: Limits = Limits()  # noqa: RUF009 - immutable
    keys: tuple[str, ...] = ()
    keeping: Keeping | None = None
    router: Router = field(default_factory=AlwaysAnswer)
    fallback: Fallback | None = None
    """To whom the router hands on; it is the handler of the route with its name."""
    packages: str | None = None
    """Folder of llama.cpp's packages on this machine."""


def build(plan: Plan, final: Callable[[str, TaskUnit], str], *, wait: bool = False) -> App:
    """Return the application of `plan`. Its lifespan checks the files of the release and loads the engine.

    `final` takes the rationale out of an answer, as the evaluation does. `wait`: the lifespan begins when the engine is loaded.

    Raises:
        ModelError: the environment variable with the key of the fallback's endpoint is not set.
        StorageError: the folder of the records cannot be written.
    """
    deployment, pool = plan.deployment, plan.pool
    sampling, turns = greedy(deployment.manifest.student.max_tokens), Turns()
    copies: list[object] = []  # of a release behind a URL: they live as long as the application
    load = Load(lambda: _load(plan, copies), sampling, pool.max_num_seqs, plan.limits.queue, warm_up(deployment.student()), turns)
    service = with_fallback(Service(deployment, Worker(load), final, plan.router), plan.fallback, plan.limits, turns)
    recorder = Recorder(plan.keeping) if plan.keeping else None
    return App(service, Options(plan.limits, plan.keys, recorder, wait))


def with_fallback(service: Service, fallback: Fallback | None, limits: Limits, turns: Turns) -> Service:
    """Return `service` with the handler of `fallback`; its engine takes `turns` with the student's if it is in this process.

    Raises:
        ModelError: the environment variable with the key of its endpoint is not set.
    """
    if fallback is None:
        return service
    name = fallback.target.name
    if fallback.is_remote:
        remote = EndpointHandler(fallback, service.final)
        return replace(service, handlers={name: remote}, close=remote.close)
    target, at_once = fallback.target, fallback.pool.max_num_seqs
    hello = warm_up(target)
    load = Load(lambda: load_local(fallback), greedy(target.max_tokens), at_once, limits.queue, hello, turns)
    teacher = Worker(load)
    return replace(service, handlers={name: LocalHandler(fallback, service.final, teacher)}, teacher=teacher)


def _load(plan: Plan, copies: list[object]) -> Answers:
    """Return the engine, once each file of the release is what its manifest says."""
    verified(plan.deployment)
    folder, copy = local_copy(Folder(plan.deployment.folder) / MODEL)
    model = within_positions(cast(Model, plan.deployment.student(packages=plan.packages).model), model_size(folder))
    copies.append(copy)
    return build_model(model, plan.pool, folder=folder)
