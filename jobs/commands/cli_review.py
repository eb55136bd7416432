"""The commands `rayleigh review export` and `rayleigh review import`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Run, show

review = typer.Typer(no_args_is_help=True, help="Answers out to a person, labels back in.")


@review.command()
def export(
    run: Run,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new file; for argilla a new folder.")],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv, jsonl, argilla; gold: all labelled ones.")] = "csv",
    pool: Annotated[str, typer.Option("--pool", metavar="POOL", help="Whose answers.")] = "review",
    as_json: Json = False,
) -> None:
    """Write the answers of a pool of RUN for a person to label `right`, `wrong`, or `corrected` with a correction."""
    from jobs.commands import review

    result = review.export(run, out, form=form, pool=pool)
    show(result, review.as_text(result), as_json)


@review.command(name="import")
def import_(
    run: Run,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A labelled export: CSV, JSONL, or Argilla's folder.")],
    as_json: Json = False,
) -> None:
    """Keep the labels of FILE beside RUN; the next run of the dataset uses them."""
    from jobs.commands import review

    result = review.import_(run, file)
    show(result, review.as_text(result), as_json)
