"""The command `rayleigh plan`."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from engine.errors import InputError
from jobs.terminal.arguments import Changes, Contract, Json, Profile, show

MOST = 10**15  # prompts


def plan(
    contract: Contract,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder; default runs/NAME.")] = None,
    pilot: Annotated[int, typer.Option("--pilot", min=2, metavar="PROMPTS", help="Number of prompts to answer.")] = 20,
    rows: Annotated[str | None, typer.Option("--rows", metavar="N", help="Prompts of a larger run, such as 1e9.")] = None,
    coefficients: Annotated[
        str | None,
        typer.Option("--coefficients", metavar="FILE", help="Of `bench scale --out`; default those shipped."),
    ] = None,
    speeds: Annotated[
        list[str] | None,
        typer.Option("--speed", metavar="NAME=N", help="Tokens a second of an actor of a model, for --rows; repeatable."),
    ] = None,
    pilot_profile: Annotated[
        str | None, typer.Option("--pilot-profile", metavar="NAME", help="Where the pilot of --rows runs; default --profile.")
    ] = None,
    profile: Profile = "laptop",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Answer a few prompts of CONTRACT, and estimate the whole run, or one of --rows: tokens, time, money, bytes, memory."""
    from jobs.commands import plan

    if rows is None:
        _require_none({"--coefficients": coefficients, "--speed": speeds, "--pilot-profile": pilot_profile})
        result = plan.plan(contract, run, pilot=pilot, profile=profile, changes=changes or [])
        show(result, plan.as_text(result, contract), as_json)
        return
    from jobs.commands import plan_scale, plan_scale_text

    order = plan_scale.ScaleOrder(count(rows), pilot, pilot_profile, coefficients, speeds_of(speeds or []))
    scaled = plan_scale.plan_scale(contract, run, order, profile=profile, changes=changes or [])
    show(scaled, plan_scale_text.as_text(scaled), as_json)


def count(text: str) -> int:
    """Return a number of prompts, such as 1e9 or 250000.

    Raises:
        InputError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number <= MOST or number != int(number):
        raise InputError(f"--rows: found {text!r}, expected a whole number of prompts from 1 to {MOST:g}, such as 1e9.")
    return int(number)


def speeds_of(texts: Sequence[str]) -> dict[str, float]:
    """Return model -> tokens a second of options NAME=N.

    Raises:
        InputError: an option is not of this form.
    """
    speeds = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            speeds[name] = float(number)
        except ValueError:
            speeds[name] = math.nan
        if not 0 < speeds[name] < math.inf:
            raise InputError(f"--speed: found {text!r}, expected NAME=TOKENS, tokens a second of one actor, such as smol=2500.")
    return speeds


def _require_none(options: Mapping[str, object]) -> None:
    """Raise InputError if one of the `options` that only --rows reads has a value."""
    if given := [name for name, value in options.items() if value]:
        raise InputError(f"plan: {', '.join(given)} is for a plan of --rows N, which is not given. Add it, or leave this out.")
