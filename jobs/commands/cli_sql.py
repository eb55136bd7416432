"""The command `rayleigh sql`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json

QUERY_HELP = "Run folders, or folders of `serve --records`; then a SELECT or `describe TABLE`, in quotes."


def sql(
    words: Annotated[list[str] | None, typer.Argument(metavar="RUN... [QUERY]", help=QUERY_HELP)] = None,
    name: Annotated[str | None, typer.Option("--question", metavar="NAME", help="Ask a question of views.sql by its name.")] = None,
    known: Annotated[bool, typer.Option("--questions", help="List the questions.")] = False,
    registry: Annotated[
        str | None, typer.Option("--registry", metavar="FOLDER", help="Folder of champions; default next to the first RUN.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table of Markdown.")] = False,
    parquet: Annotated[str | None, typer.Option("--parquet", metavar="FILE", help="Write a new Parquet file.")] = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="FILE", help="Write all tables to a new, read-only DuckDB file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a SELECT over the tables of runs, their registry and records of requests; with --json one line per row."""
    from jobs.terminal.imports import leave_out_pandas

    leave_out_pandas()
    from engine.errors import InputError
    from jobs.commands import sql_questions
    from jobs.commands.sql import Views

    if known:
        typer.echo(sql_questions.as_text())
        return
    runs, query = list(words or ()), None
    if name is None and database is None:
        query = runs.pop() if len(runs) > 1 else None
    if not runs or (query is None and name is None and database is None):
        raise typer.BadParameter("found no RUN, or no QUERY: rayleigh sql RUN 'select ...', or --question NAME, or --database FILE")
    forms = [form for form, is_asked in {"json": as_json, "csv": csv, "markdown": markdown}.items() if is_asked]
    if len(forms) + bool(parquet) + bool(database) > 1:
        raise InputError("sql: found several of --json, --csv, --markdown, --parquet and --database, expected one.")
    from jobs.commands import sql_output

    views = Views(*runs, registry=registry, labelled=name is not None or database is not None)
    if database:
        names = sql_output.write_database(views, database, sql_questions.questions())
        typer.echo(f"{database}: {', '.join(names)}")
        return
    answer = views.query(sql_questions.question(name, views.names).sql if name is not None else query or "")
    if parquet:
        typer.echo(f"{parquet}: {sql_output.write_parquet(answer, parquet)} rows")
        return
    for line in sql_output.WRITERS[forms[0] if forms else "table"](answer):
        typer.echo(line)
