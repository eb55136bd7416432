"""Puts a server together from plain picklable values: in the process that listens, or in a replica."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from engine.contract.models import Model
from engine.contract.profile import Pool
from engine.contract.specialist import TaskUnit
from engine.evaluation.evaluator import EvalTarget, greedy, within_positions
from engine.evaluation.size import model_size
from engine.inference.batcher import Answers
from engine.inference.engine import build_model
from engine.inference.engine_process import EngineProcess
from engine.serving import niche_engine
from engine.serving.answering import Companion
from engine.serving.app import App, Options
from engine.serving.body import Limits
from engine.serving.deployment import MODEL, Deployment, verified
from engine.serving.fallback import EndpointHandler, Fallback, LocalHandler, load_local
from engine.serving.niche_engine import Checked
from engine.serving.recorder import Keeping, Recorder
from engine.serving.router import AlwaysAnswer, Router
from engine.serving.service import Service, warm_up
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
    niche: Checked | None = None
    """What is outside the niche; None: nothing is."""

    @property
    def niche_worker(self) -> Worker | None:
        """A new worker that checks the niche, not started."""
        return niche_engine.worker(self.niche, self.limits.queue) if self.niche else None


def build(plan: Plan, final: Callable[[str, TaskUnit], str], *, wait: bool = False, companions: Sequence[Companion] = ()) -> App:
    """Return the application of `plan`. Its lifespan checks the files of the release and loads the engine.

    `final` takes the rationale out of an answer, as the evaluation does. `wait`: the lifespan begins when the engine is loaded.

    Raises:
        ModelError: the environment variable with the key of the fallback's endpoint is not set.
        StorageError: the folder of the records cannot be written.
    """
    service = with_fallback(_service(plan, final), plan.fallback, plan.limits)
    recorder = Recorder(plan.keeping) if plan.keeping else None
    return App(service, Options(plan.limits, plan.keys, recorder, wait, companions))


def beside(plan: Plan, running: Service) -> Service:
    """Return a service of `plan` that loads while `running` answers; if both hand on to the same teacher, with that of `running`.

    Raises:
        ModelError: the environment variable with the key of the fallback's endpoint is not set.
    """
    service = _service(plan, running.final)
    if plan.fallback is None or plan.fallback != running.fallback:
        return with_fallback(service, plan.fallback, plan.limits)
    handlers, teacher, close = running.handlers, running.teacher, running.close
    return replace(service, fallback=running.fallback, handlers=handlers, teacher=teacher, close=close)


def engine_of(plan: Plan) -> Callable[[], Answers]:
    """Return what loads the engine of `plan` in whatever process it is called; picklable."""
    return partial(_load, plan, [])


def with_fallback(service: Service, fallback: Fallback | None, limits: Limits) -> Service:
    """Return `service` with the handler of `fallback`.

    Raises:
        ModelError: the environment variable with the key of its endpoint is not set.
    """
    if fallback is None:
        return service
    name = fallback.target.name
    if fallback.is_remote:
        remote = EndpointHandler(fallback, service.final)
        return replace(service, handlers={name: remote}, close=remote.close, fallback=fallback)
    teacher = _worker(fallback.target, partial(load_local, fallback), fallback.pool.max_num_seqs, limits.queue)
    handlers = {name: LocalHandler(fallback, service.final, teacher)}
    return replace(service, handlers=handlers, teacher=teacher, fallback=fallback)


def _service(plan: Plan, final: Callable[[str, TaskUnit], str]) -> Service:
    worker = _worker(plan.deployment.student(), engine_of(plan), plan.pool.max_num_seqs, plan.limits.queue)
    return Service(plan.deployment, worker, final, plan.router, niche=plan.niche_worker)


def _worker(target: EvalTarget, engine: Callable[[], Answers], at_once: int, queue: int) -> Worker:
    """Return the worker of a model, not started.

    Its engine has a process of its own: it does not share the interpreter's lock with what reads and writes requests, nor what vLLM
    keeps of a forward pass with another engine.
    """
    apart = partial(EngineProcess, engine, at_once)
    return Worker(Load(apart, greedy(target.max_tokens), at_once, queue, warm_up(target)))


def _load(plan: Plan, copies: list[object]) -> Answers:
    """Return the engine, once each file of the release is what its manifest says. `copies` keeps that of a release behind a URL."""
    verified(plan.deployment)
    folder, copy = local_copy(Folder(plan.deployment.folder) / MODEL)
    model = within_positions(cast(Model, plan.deployment.student(packages=plan.packages).model), model_size(folder))
    copies.append(copy)
    return build_model(model, plan.pool, folder=folder)
