"""The commands `rayleigh review export` and `rayleigh review import`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Run, show

review = typer.Typer(no_args_is_help=True, help="Export answers for a person to label, and import the labels.")


@review.command()
def export(
    run: Run,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new file; for argilla a new folder.")],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv, jsonl, argilla, or gold (all labelled).")] = "csv",
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="POOL", help="The pool of the answers; by default review, with --draw all.")
    ] = None,
    draw: Annotated[
        int | None, typer.Option("--draw", metavar="N", help="The N most informative answers that have no label yet.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the answers of a pool of RUN for a person to label `right`, `wrong`, or `corrected` with a correction."""
    from jobs.commands import review

    result = review.export(run, out, form=form, pool=pool, size=draw)
    show(result, review.export_text(result), as_json)


@review.command(name="import")
def import_(
    run: Run,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A labelled export: CSV, JSONL, or Argilla's folder.")],
    as_json: Json = False,
) -> None:
    """Store the labels of FILE in RUN; the next run of the dataset uses them."""
    from jobs.commands import review

    result = review.import_(run, file)
    show(result, review.import_text(result), as_json)
