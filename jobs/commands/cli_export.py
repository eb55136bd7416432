"""The command `rayleigh export`."""

from typing import Annotated, Literal, get_args

import typer

from jobs.terminal.arguments import Json, Registry, Run, show

Format = Literal[
    "hf", "croissant", "csv", "messages", "sharegpt", "alpaca", "preferences", "delta", "iceberg", "lance", "arrays",
]  # fmt: skip


def export(
    run: Run,
    form: Annotated[Format, typer.Argument(metavar="FORMAT", help=f"{', '.join(get_args(Format))}.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    where: Annotated[
        str | None, typer.Option("--where", metavar="SQL", help="Condition on the columns of examples and prompts.")
    ] = None,
    licence: Annotated[
        list[str] | None, typer.Option("--licence", metavar="NAME", help="Only rows of this licence; repeatable.")
    ] = None,
    redact: Annotated[
        list[str] | None,
        typer.Option("--redact", metavar="KIND", help="Replace email, phone, card, iban or ip, too; repeatable."),
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/NAME", help="Also upload the folder to a private dataset repository.")
    ] = None,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Write the training data of RUN in the form of another program; withdrawn rows and personal data stay behind."""
    from jobs.commands import export_data

    order = export_data.Order(form, where, tuple(licence or ()), tuple(redact or ()), registry, push)
    result = export_data.export(run, out, order)
    show(result, export_data.as_text(result, out), as_json)
