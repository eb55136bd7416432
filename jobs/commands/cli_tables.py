"""The commands `rayleigh check-data`, `rayleigh schema diff` and `rayleigh schema package`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Run, show

tables = typer.Typer()
schema = typer.Typer(no_args_is_help=True, help="Columns of tables.")


@tables.command("check-data")
def check_data(
    run: Run,
    quick: Annotated[bool, typer.Option("--quick", help="Compare files with the records alone; read no row.")] = False,
    as_json: Json = False,
) -> None:
    """Check the tables of RUN: files, nulls, closed sets, ranges, ids, references, counts. Exits with 1 if a rule is broken."""
    from jobs.commands import check_data

    result = check_data.check_data(run, quick=quick)
    show(result, check_data.as_text(result), as_json)
    if not result.ok:
        raise typer.Exit(1)


@schema.command("diff")
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="Run folder: a local path or an fsspec URL.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Another run folder.")],
    as_json: Json = False,
) -> None:
    """Show which columns of B's tables were added, removed, renamed, or have another type or nullability than those of A."""
    from jobs.commands import schema_diff

    result = schema_diff.schema_diff(before, after)
    show(result, schema_diff.as_text(result), as_json)


@schema.command("package")
def package(run: Run, as_json: Json = False) -> None:
    """Show the data contracts of RUN's tables; with --json as a Data Package: types, sets, ranges, keys, all rules as SQL."""
    from jobs.commands import schema_package

    result = schema_package.schema_package(run)
    show(result.package, result.text, as_json)


tables.add_typer(schema, name="schema")
