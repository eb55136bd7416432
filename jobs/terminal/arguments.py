"""Arguments that several commands share, and how each command prints its result."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # pydantic takes longer to import than the help takes to print
    from engine.records.base import Record

Contract = Annotated[str, typer.Argument(metavar="CONTRACT", help="A YAML file or its URL, such as jobs/contracts/smoke.yaml.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a local path or an fsspec URL.")]
Profile = Annotated[str, typer.Option("--profile", metavar="NAME", help="A name in cluster/profiles, or a YAML file.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a value of the contract; repeatable.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="JOB", help="Stop after this job, such as dataset.")]
Registry = Annotated[str | None, typer.Option("--registry", metavar="FOLDER", help="Folder of champions; default next to RUN.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show(result: "Record | Mapping[str, object]", text: str, as_json: bool) -> None:
    """Print the result of a command, as JSON or as its text."""
    if not as_json:
        typer.echo(text)
    elif isinstance(result, Mapping):
        typer.echo(json.dumps(result, indent=1, default=str))
    else:
        typer.echo(result.model_dump_json(indent=1, by_alias=True))
