"""The command `rayleigh dedup`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Profile, show


def dedup(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="JSONL, JSON, CSV, TSV, Parquet: a file, folder, glob, URL.")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="A new folder or fsspec URL for the rows that are kept.")],
    text_column: Annotated[str, typer.Option("--text-column", metavar="NAME", help="Column of the text to compare.")] = "text",
    id_column: Annotated[
        str | None, typer.Option("--id-column", metavar="NAME", help="Default `id`; without one, ids are made of file and row.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="Least similarity of duplicates; default 0.7, semantic 0.95.")
    ] = None,
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="exact, minhash or semantic.")] = "minhash",
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="For semantic: a sentence-transformers folder.")
    ] = "all-minilm-l6-v2",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="COLUMN", help="Keep the row with the highest value; or `shortest`, `longest`; repeatable for ties."
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="PATH", help="Existing rows, of which INPUT may have no duplicates.")
    ] = None,
    index: Annotated[
        str | None, typer.Option("--index", metavar="FOLDER", help="Compare with the rows in this index, and add the new ones.")
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option("--normalization", metavar="FORM", help="Unicode form to compare: nfc (default), nfkc; none: as written."),
    ] = None,
    damaged: Annotated[
        str,
        typer.Option(
            "--damaged", metavar="CHOICE", help="What to do with a cut or damaged file: refuse, or keep what is readable."
        ),
    ] = "refuse",
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Write INPUT without duplicates to OUTPUT, and the table of duplicates to `__dedup__` beside it."""
    from jobs.terminal.imports import leave_out_pandas, uncollected

    with uncollected():
        if method != "semantic":  # whose model brings it
            leave_out_pandas()
        from jobs.commands import dedup

    columns = (text_column, id_column)
    options = dedup.Options(*columns, threshold, method, model, tuple(keep or ()), against, index, normalization, damaged)  # pyright: ignore
    result = dedup.dedup(source, output, options, profile=profile)
    show(result, dedup.as_text(result), as_json)
