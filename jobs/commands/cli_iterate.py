"""The command `rayleigh iterate`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Changes, Contract, Json, Profile, show


def iterate(
    contract: Contract,
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Folder of the rounds, their ledger and their champions.")],
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Rounds in all; the first is an ordinary run.")] = 3,
    from_traffic: Annotated[
        str | None, typer.Option("--from-traffic", metavar="RECORDS", help="Records of `rayleigh serve`, kept with --keep-text.")
    ] = None,
    profile: Profile = "laptop",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Run rounds of CONTRACT, each with more prompts where the last student is weak, until a stop signal or N rounds."""
    from jobs.commands import iterate

    result = iterate.iterate(contract, root, rounds=rounds, traffic=from_traffic, profile=profile, changes=changes or [])
    show(result, iterate.as_text(result), as_json)
