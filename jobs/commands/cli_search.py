"""The command `rayleigh search`: its arguments."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Changes, Contract, Json, Profile, Run, show


def search(
    contract: Contract,
    run: Run,
    space: Annotated[str, typer.Option("--space", metavar="FILE", help="The keys of a student, their values and the budget.")],
    profile: Profile = "laptop",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Try values of a student's keys on the finished dataset of RUN, and train the best ones over several seeds."""
    from jobs.commands import search

    result = search.search(contract, run, space=space, profile=profile, changes=changes or [])
    show(result, search.as_text(result), as_json)
