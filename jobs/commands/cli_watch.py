"""The command `rayleigh watch`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json


def watch(
    records: Annotated[str, typer.Argument(metavar="RECORDS", help="Folder that `rayleigh serve --records` writes.")],
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Take the baseline from this run's holdout, not from first requests.")
    ] = None,
    student: Annotated[str | None, typer.Option("--student", metavar="NAME", help="Student of RUN, if it has several.")] = None,
    baseline: Annotated[
        int, typer.Option("--baseline", min=30, metavar="N", help="Without RUN: requests that later ones are held against.")
    ] = 500,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="FILE", help='Lines {"request_id": ..., "right": true}: estimates accuracy.')
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="MODEL", help="Test the prompts, too (--keep-text): all-minilm-l6-v2, or a folder."),
    ] = None,
    page: Annotated[
        str | None, typer.Option("--page", metavar="FILE", help="Write the view as one HTML file, too; anew every ten seconds.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show the state now, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Show a server's requests, routes, agreement in shadow and alarms, and keep the monitor's state with the records."""
    from engine.records.watch import WatchView
    from jobs.commands import watch

    def show(view: WatchView) -> None:
        if as_json:
            typer.echo(view.model_dump_json(indent=1 if once else None))
        else:
            typer.echo(("" if once else "\x1b[H\x1b[2J") + watch.as_text(view))

    watch.watch(records, watch.Order(run, student, baseline, labels, encoder, page), show, once=once)
