"""What several commands share: their options, and how they print what they found."""

import json
from typing import Annotated, Any

import typer

Profile = Annotated[str, typer.Option("--profile", metavar="NAME", help="A name in cluster/profiles, or a YAML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show(found: dict[str, Any], text: str, as_json: bool) -> None:
    """Print `found` as JSON, or `text`."""
    typer.echo(json.dumps(found, indent=1, default=str) if as_json else text)
