"""The commands `rayleigh manifests` and `rayleigh check-manifests`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Changes, Contract, Json, Profile, show


def manifests(
    contract: Contract,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Where the files are written.")],
    profile: Profile = "cluster",
    storage: Annotated[
        str,
        typer.Option("--storage", metavar="URL", help="Where runs and releases lie: s3://BUCKET, gs://BUCKET or a shared mount."),
    ] = "s3://your-bucket",
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Default rayleigh:VERSION-gpu, of cluster/Dockerfile.")
    ] = None,
    queue: Annotated[str, typer.Option("--queue", metavar="NAME", help="Kueue's local queue.")] = "rayleigh",
    changes: Changes = None,
) -> None:
    """Write the manifests that run CONTRACT on a cluster: KubeRay, Kueue and `ray up`."""
    from pathlib import Path

    from jobs.commands import manifests

    request = manifests.Request(contract, profile, storage.rstrip("/"), image, queue)
    paths = manifests.save(manifests.manifests(request, changes or []), Path(out))
    typer.echo("\n".join(manifests.lines(paths, manifests.notes(request, changes or []))))


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
