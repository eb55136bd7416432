"""The application of a RayService: Serve's configuration names `jobs.commands.serve_application:build` and its arguments."""

from functools import partial
from typing import Any

from engine.errors import InputError
from engine.records.base import Json

ARGUMENTS = ("release", "profile", "replicas", "keys_env", "records", "follow")


def build(arguments: Json) -> Any:
    """Return the application for `arguments`: `release` is as for `rayleigh serve`, the others are its options.

    Raises:
        InputError: an argument is unknown, or `release` is missing.
        RayleighError: as `rayleigh serve`.
    """
    if unknown := sorted(set(arguments) - set(ARGUMENTS)):
        raise InputError(f"args of the application: found {', '.join(unknown)}, expected some of {', '.join(ARGUMENTS)}.")
    if not arguments.get("release"):
        raise InputError("args.release: is missing. Write REGISTRY/CONTRACT, or the folder of a release.")
    from jobs.commands.serve_environment import prepare

    prepared = prepare(arguments["release"], arguments.get("profile", "cluster"))  # before torch is imported

    from engine.serving import flow
    from jobs.commands import serve

    place, follow = arguments["release"], bool(arguments.get("follow", True))
    options = serve.Options(keys_env=arguments.get("keys_env"), records=arguments.get("records"), place=place, follow=follow)
    plan = serve.plan_of(prepared, options, print, local=False)
    options = serve.for_replicas(options, plan.pool, print)
    return flow.application(partial(serve.replica, plan, options, prepared[1]), plan, int(arguments.get("replicas", 1)))
