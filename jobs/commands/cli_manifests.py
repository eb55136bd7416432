"""The commands `rayleigh manifests` and `rayleigh check-manifests`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, show


def check_manifests(
    files: Annotated[list[str], typer.Argument(metavar="FILES", help="YAML for KubeRay or `ray up`: files, or folders of them.")],
    schemas: Annotated[
        str | None,
        typer.Option(
            "--schemas", metavar="FOLDER", help="The operator's CRDs, or JSON Schemas of them, for the check of all fields."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check manifests against the operator's schemas and rules; exit with 1 if one would be refused."""
    from jobs.commands import check_manifests

    report = check_manifests.check_manifests(files, schemas)
    show(report, check_manifests.as_text(report), as_json)
    if report.count("error") or (strict and report.problems):
        raise typer.Exit(1)
