"""What several commands are told, and how each prints what it found."""

import json
from typing import Annotated, Any

import typer

from engine.records.base import Record

Order = Annotated[str, typer.Argument(metavar="CONTRACT", help="A YAML file, such as jobs/contracts/smoke.yaml.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a local path or an fsspec URL.")]
Profile = Annotated[str, typer.Option("--profile", metavar="NAME", help="A name in cluster/profiles, or a YAML file.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a value of the contract; again for more.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="JOB", help="Stop after this job, such as dataset.")]
Registry = Annotated[str | None, typer.Option("--registry", metavar="FOLDER", help="Where champions are kept; default beside RUN.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show(found: Record | dict[str, Any], text: str, as_json: bool) -> None:
    """Print what a command found, as JSON or as its text."""
    if isinstance(found, Record):
        typer.echo(found.model_dump_json(indent=1) if as_json else text)
    else:
        typer.echo(json.dumps(found, indent=1, default=str) if as_json else text)
