"""The part of `rayleigh doctor` that asks a running cluster: whether it answers, and what of the profile's pools it can place."""

import logging
from collections.abc import Iterator
from typing import Any

from engine.contract.profile import Profile
from engine.records.base import Record


class Check(Record):
    """One check of the machine."""

    name: str
    """What is checked, such as `memory`."""
    ok: bool
    """Whether the machine has what the profile needs."""
    found: str
    """What the machine has."""
    expected: str
    """What the profile needs."""
    fix: str = ""
    """How to fix it; empty if `ok`."""


def checks(profile: Profile) -> Iterator[Check]:
    """Yield the checks of the cluster that `profile` joins; none for a profile that starts its own."""
    if profile.ray.address in ("local", "none"):
        return
    import ray  # a second that other profiles need not pay

    address = profile.ray.address
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        fix = (
            f"run it on the head node, or on a node that `ray start --address` has joined; ray.address of the profile is {address}"
        )
        yield Check(name="cluster", ok=False, found=why, expected=f"a cluster at {address}", fix=fix)
        return
    try:
        yield from _running(profile, ray.nodes())
    finally:
        ray.shutdown()


def _running(profile: Profile, nodes: list[Any]) -> Iterator[Check]:
    from engine.distributed import session
    from engine.distributed.placement import place
    from jobs.commands.check_placement import wanted_by_pools

    alive = sum(node["Alive"] for node in nodes)
    yield Check(
        name="cluster", ok=alive > 0, found=f"{alive} nodes alive", expected="at least one", fix="" if alive else "start nodes"
    )
    groups, is_limit_known = session.groups(profile)
    for placement in place(wanted_by_pools(profile), groups):
        found = f"{placement.state}, {placement.placed} of {placement.actors}"
        wanted = f"{placement.actors} x {placement.each}"
        is_lost = placement.state == "never"
        growing = "" if is_limit_known else "; or start nodes: what the cluster may grow to is not known"
        fix = placement.note + growing if is_lost else ""
        yield Check(name=f"place {placement.job}: {placement.who}", ok=not is_lost, found=found, expected=wanted, fix=fix)
