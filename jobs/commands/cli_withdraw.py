"""The command `rayleigh withdraw`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, show


def withdraw(
    registry: Annotated[str, typer.Argument(metavar="REGISTRY", help="Folder of champions, such as runs/registry.")],
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="ID", help="Id of a prompt.")] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="PATH", help="A source, as the contract writes it.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", metavar="NAME", help="All rows of a licence.")] = None,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, which is kept.")] = "",
    runs: Annotated[
        str | None, typer.Option("--runs", metavar="FOLDER", help="Folder below which runs are; default beside REGISTRY.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Record nothing; only say who holds the rows.")] = False,
    as_json: Json = False,
) -> None:
    """Record that rows may not be used any more; say which releases and runs hold them. They are never promoted again."""
    from jobs.commands import withdraw

    given = {"prompt": prompt, "source": source, "licence": licence}
    result = withdraw.withdraw(registry, given, why=why, runs=runs, dry_run=dry_run)
    show(result, withdraw.as_text(result), as_json)
