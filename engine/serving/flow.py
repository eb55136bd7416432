"""A server on Ray Serve: the same application in each replica, with an engine of its own."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from ray import serve as ray_serve
from ray.serve.config import HTTPOptions

from engine.distributed import ray_options
from engine.distributed.environment import server_environment
from engine.serving.app import App
from engine.serving.build import Plan

NAME = "rayleigh"
MARGIN = 5.0  # seconds beyond the deadline, for replies to leave when a replica stops


class Cluster(NamedTuple):
    """Where Ray Serve listens, and how many engines it runs."""

    host: str
    port: int
    replicas: int


def serve(build_app: Callable[[], App], plan: Plan, cluster: Cluster, say: Callable[[str], None]) -> None:
    """Serve on the cluster that this process is connected to, until SIGTERM or SIGINT.

    `build_app` is picklable and called in each replica, for `plan`; it waits until the engine is loaded (`build`).
    """
    ray_serve.start(http_options=HTTPOptions(host=cluster.host, port=cluster.port))
    try:
        ray_serve.run(application(build_app, plan, cluster.replicas), name=NAME, route_prefix="/")
        say(f"listening on http://{cluster.host}:{cluster.port}")
        _wait()
    finally:
        ray_serve.shutdown()
    say("stopped")


def application(build_app: Callable[[], App], plan: Plan, replicas: int) -> Any:
    """Return the application for `ray.serve.run`; see `serve`."""
    wrapped = ray_serve.ingress(lambda: build_app().asgi())(_Replica)
    deployment = ray_serve.deployment(
        name=NAME,
        num_replicas=replicas,
        max_ongoing_requests=plan.limits.queue + 2 * plan.pool.max_num_seqs,  # the application's own queue refuses before
        ray_actor_options={**ray_options.resources(plan.pool), "runtime_env": {"env_vars": server_environment(plan.pool, {})}},
        graceful_shutdown_timeout_s=plan.limits.deadline + MARGIN,
        health_check_period_s=10,
    )(wrapped)
    return deployment.bind()


class _Replica:
    """What Ray Serve asks besides requests."""

    app: Any
    """The ASGI application, which Ray Serve sets."""

    def check_health(self) -> None:
        """Raise once the engine has failed for good: Ray Serve then starts another replica."""
        if fault := self.app.state.rayleigh.service.fault:
            raise RuntimeError(f"the engine failed: {type(fault).__name__}: {fault}")


def _wait() -> None:
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        while not stopped.wait(1.0):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
