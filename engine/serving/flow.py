"""A server on Ray Serve: the same application in each replica, with an engine of its own."""

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NamedTuple

from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client  # no public call tells the routes, or where Serve listens

from engine.distributed import ray_options
from engine.distributed.environment import server_environment
from engine.errors import InputError
from engine.serving.app import App
from engine.serving.build import Plan
from engine.serving.listen import Address

NAME, ROUTE = "rayleigh", "/"
MARGIN = 5.0  # seconds beyond the deadline, for replies to leave when a replica stops


class Cluster(NamedTuple):
    """Where Ray Serve listens, and how many engines it runs."""

    host: str
    port: int
    replicas: int


def serve(build_app: Callable[[], App], plan: Plan, cluster: Cluster, say: Callable[[str], None]) -> None:
    """Serve on the cluster that this process is connected to, until SIGTERM or SIGINT.

    `build_app` is picklable and called in each replica, for `plan`; it waits until the engine is loaded (`build`). Ray Serve may
    run there already, with applications of others: it then listens where they said, and goes on without this one.

    Raises:
        InputError: another application has the name or the route.
    """
    running = _get_global_client(raise_if_no_controller_running=False)
    if running:
        _check_free(running.get_serve_details()["applications"])
    ray_serve.start(http_options=HTTPOptions(host=cluster.host, port=cluster.port))
    try:
        ray_serve.run(application(build_app, plan, cluster.replicas), name=NAME, route_prefix=ROUTE)
        client = _get_global_client()
        assert client is not None  # it raises if nothing runs
        if running:
            say("Ray Serve ran on this cluster before: it listens where it did, whatever --host and --port say")
        say(f"listening on {Address(client.http_config.host or '', client.http_config.port).url}")
        _wait()
    finally:
        others = set(ray_serve.status().applications) - {NAME}
        if running or others:
            ray_serve.delete(NAME)
        else:
            ray_serve.shutdown()
    say("stopped")


def _check_free(applications: Mapping[str, Any]) -> None:
    """Raise InputError if an application of the cluster, name -> details, is in the way."""
    taken = next((name for name, each in applications.items() if name == NAME or each.get("route_prefix") == ROUTE), None)
    if taken is not None:
        route = applications[taken].get("route_prefix")
        raise InputError(
            f"rayleigh serve: Ray Serve on this cluster has the application {taken!r} at {route}, "
            f"expected neither one called {NAME!r} nor one at {ROUTE}. Serve in one process (--local) or on another cluster; if "
            f"nobody needs that application: python -c \"from ray import serve; serve.delete('{taken}')\"."
        )


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
