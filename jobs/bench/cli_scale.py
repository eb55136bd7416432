"""The command `rayleigh bench scale`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Profile, show


def scale(
    rows: Annotated[list[int] | None, typer.Option("--rows", metavar="N", min=100, help="Number of prompts; repeatable.")] = None,
    raylets: Annotated[int, typer.Option("--raylets", min=1, help="Nodes of Ray that share this machine.")] = 1,
    list_rows: Annotated[
        int, typer.Option("--list-rows", min=0, metavar="N", help="Largest size of which listings are counted; 0: none.")
    ] = 100_000,
    earlier: Annotated[
        str | None, typer.Option("--with", metavar="FILE", help="What --json or --out kept before: its sizes are added.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="FILE", help="Coefficients to check; default those that are shipped.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="For the coefficients; what was measured lies beside it.")
    ] = None,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Measure what of the line grows with rows (CPU, shuffle, storage, memory), and check the cost model of `plan --rows`."""
    from jobs.bench import flow, scale
    from jobs.bench.scale_text import as_text

    order = scale.Order(tuple(rows or flow.SIZES), raylets, list_rows)
    files = scale.Files(earlier, against, out)
    result = scale.run(order, files, profile=profile)
    show(result, as_text(result), as_json)
