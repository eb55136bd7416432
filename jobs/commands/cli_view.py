"""The command `rayleigh view`."""

from typing import Annotated

import typer


def view(
    root: Annotated[
        str, typer.Argument(metavar="ROOT", help="A folder or fsspec URL with runs below it, or a run folder.")
    ] = "runs",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="0: any free one.")] = 0,
) -> None:
    """Show all runs below ROOT on a local page: tables with filters and search, lineage, answers side by side, labels."""
    from jobs.commands import view

    view.view(root, port=port, log=lambda line: typer.echo(line, err=False))
