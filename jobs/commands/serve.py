"""`rayleigh serve`: answers requests with a release, as it was measured."""

import logging
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.contract.profile import Pool, Profile
from engine.contract.specialist import TaskUnit
from engine.curation.represent import represent
from engine.errors import InputError, MachineError, ModelError, RayleighError
from engine.serving.body import Limits
from engine.serving.deployment import Deployment
from engine.serving.recorder import Keeping
from engine.storage.folder import Folder
from engine.students.export import gguf
from jobs import places
from jobs.commands import serve_cascade, serve_shadow
from jobs.steps.deployed import deployment_of

if TYPE_CHECKING:
    from engine.serving.answering import Companion
    from engine.serving.app import App
    from engine.serving.build import Plan
    from engine.serving.follower import Follower

log = logging.getLogger(__name__)

SPARE_FILES = 512  # file descriptors besides those of connections


class Options(NamedTuple):
    """How a release is served."""

    keys_env: str | None = None
    limits: Limits = Limits()
    records: str | None = None
    keep_text: bool = False
    sample: float = 1.0
    days: float | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    cascade: serve_cascade.Order = serve_cascade.Order()
    place: str = ""
    """What was named: a release, or a contract in a registry, whose champion is followed."""
    follow: bool = True
    keep_previous: bool = True
    shadow: serve_shadow.Order = serve_shadow.Order()


def final(answer: str, unit: TaskUnit) -> str:
    """Return the part of `answer` that the evaluation compares with the reference."""
    return represent(answer, unit).final


def serve(prepared: tuple[Folder, Profile, Pool], options: Options, say: Callable[[str], None], *, local: bool) -> None:
    """Serve a release until SIGTERM or SIGINT. `prepared` is what `serve_environment.prepare` returns.

    Raises:
        StorageError: a file of it or the cascade's file is missing or was changed; the folder of the records cannot be written.
        InputError: an option is wrong; the student cannot be served.
        ModelError: the engine cannot be loaded, or has failed for good.
        MachineError: a package is missing.
    """
    plan = plan_of(prepared, options, say, local=local)
    (_serve_here if local else _serve_on_ray)(plan, options, prepared[1], say)


def plan_of(prepared: tuple[Folder, Profile, Pool], options: Options, say: Callable[[str], None], *, local: bool) -> "Plan":
    """Return what the server does.

    Raises:
        RayleighError: as `serve`.
    """
    folder, profile, pool = prepared
    keys = _keys(options.keys_env)
    if options.shadow.model and not local:
        raise InputError("--shadow: is for a server in one process; add --local.")
    deployment = deployment_of(folder)
    check_units(deployment)
    _check_packages(local)
    from engine.serving.build import Plan  # it imports the server's packages

    packages = gguf.PACKAGES.folder(profile, places.models_home())
    plan = Plan(deployment, pool, options.limits, keys, _keeping(deployment, options), packages=packages)
    chosen = serve_cascade.choose(deployment, profile, options.cascade._replace(local=local), say)
    if chosen:
        plan = replace(plan, router=chosen.router, fallback=chosen.fallback, niche=chosen.niche)
    say(f"{deployment.manifest.contract}: student {deployment.manifest.student.name}, deployment {deployment.fingerprint[:16]}")
    return plan


def _companions(plan: "Plan", options: Options, profile: Profile, say: Callable[[str], None]) -> list["Companion"]:
    """Return what runs beside the answers of a server in one process."""
    from engine.serving.monitor_files import MonitorNumbers

    follower = _follower(plan, options, profile, say, local=True)
    shadow = serve_shadow.shadow_run(plan, options.shadow, profile, final, say)
    monitor = MonitorNumbers(plan.keeping.folder) if plan.keeping else None
    return [companion for companion in (follower, shadow, monitor) if companion]


def _follower(plan: "Plan", options: Options, profile: Profile, say: Callable[[str], None], *, local: bool) -> "Follower | None":
    """Return what follows the registry; None if the server stays with its release."""
    from jobs.commands import serve_follow

    followed = serve_follow.Followed(plan, options.cascade._replace(local=local), options.keep_previous)
    return serve_follow.follower(options.place, followed, profile, say) if options.follow else None


def _check_packages(local: bool) -> None:
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401

        if not local:
            import ray.serve  # noqa: F401
    except ImportError as error:
        other = "" if local else " Or serve in one process: --local."
        message = f"rayleigh serve: a package of the server is missing: {error}"
        raise MachineError(f"{message}\nInstall them: uv pip install 'rayleigh[serve]'.{other}") from None


def _serve_here(plan: "Plan", options: Options, profile: Profile, say: Callable[[str], None]) -> None:
    from engine.serving.build import build
    from engine.serving.listen import Address, listen

    _allow_connections(options.limits.connections)
    app = build(plan, final, companions=_companions(plan, options, profile, say))

    def started(port: int) -> None:
        say(f"listening on {Address(options.host, port).url}; the engine is loading, /readyz says when it answers")

    try:
        fault = listen(app, Address(options.host, options.port), started=started)
    except OSError as error:
        where = f"--host {options.host} --port {options.port}"
        raise InputError(f"{where}: cannot be listened on: {error}. Choose another port.") from None
    if fault is not None:
        raise fault if isinstance(fault, RayleighError) else ModelError(f"the engine failed: {type(fault).__name__}: {fault}")
    say("drained: every request that was taken is answered")


def _serve_on_ray(plan: "Plan", options: Options, profile: Profile, say: Callable[[str], None]) -> None:
    from engine.distributed.session import session
    from engine.serving import flow

    options = for_replicas(options, plan.pool, say)
    with session(profile, data=False):
        cluster = flow.Cluster(options.host, options.port, options.replicas)
        flow.serve(partial(replica, plan, options, profile), plan, cluster, say)


def for_replicas(options: Options, pool: Pool, say: Callable[[str], None]) -> Options:
    """Return `options` with paths that are the same in every working directory; on GPUs nothing is followed: no second engine
    fits beside the one that answers."""
    file = options.cascade.file
    place, cascade = places.run_folder(options.place).url, options.cascade._replace(file=file and places.run_folder(file).url)
    if pool.gpus and options.follow:
        say("replicas on GPUs go on with this release: after a promotion start the server anew")
    return options._replace(place=place, cascade=cascade, follow=options.follow and not pool.gpus)


def replica(plan: "Plan", options: Options, profile: Profile) -> "App":
    """Return the application of a replica on Ray Serve, which follows the registry by itself."""
    from engine.serving.build import build

    follower = _follower(plan, options, profile, log.info, local=False)
    return build(plan, final, wait=True, companions=[follower] if follower else [])


def _keys(name: str | None) -> tuple[str, ...]:
    """Return the keys in the environment variable `name`, which commas separate."""
    if name is None:
        return ()
    keys = tuple(key.strip() for key in os.environ.get(name, "").split(",") if key.strip())
    if not keys:
        raise InputError(f"--keys-env {name}: the environment variable holds no key. Set it, several keys separated by commas.")
    return keys


def check_units(deployment: Deployment) -> None:
    tools = [unit.name for unit in deployment.units.values() if unit.supervise == "tools"]
    if tools:
        names = ", ".join(tools)
        raise InputError(f"{deployment.folder}: {names} calls tools, whose files are not in a release; it cannot be served yet.")


def _keeping(deployment: Deployment, options: Options) -> Keeping | None:
    if options.records is None:
        if options.keep_text:
            raise InputError("--keep-text: is for records; name their folder with --records FOLDER.")
        return None
    folder = Folder(options.records)
    if not folder.is_local:
        raise InputError(f"--records {options.records}: found a URL, expected a folder on a disk; copy its hours/ to a store.")
    return Keeping(Path(folder.path), options.keep_text, deployment.redact, options.sample, options.days)


def _allow_connections(connections: int) -> None:
    """Raise the limit of open files, so that a connection too many is told so instead of waiting.

    Raises:
        InputError: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise InputError(f"--connections {connections}: needs {wanted} open files, this system allows {hard} (ulimit -Hn).")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
