"""The command `rayleigh submit`."""

import sys
from typing import Annotated

import typer

from jobs.terminal.arguments import Changes, Contract, Profile


def submit(
    contract: Contract,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder: a URL, or an absolute path that every node sees.")],
    address: Annotated[str, typer.Option("--address", metavar="URL", help="Of the cluster's dashboard.")] = "http://127.0.0.1:8265",
    profile: Profile = "cluster",
    working_dir: Annotated[
        str | None,
        typer.Option(
            "--working-dir", metavar="FOLDER", help="Sent to the cluster, less its .rayignore; default CONTRACT's folder."
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job, nor wait for its end.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the running job of this run, and keep what is paid.")] = False,
    changes: Changes = None,
) -> None:
    """Run CONTRACT as a job on a cluster: a second submit of the same run follows the first. Ends with the run's exit code."""
    from jobs.commands import submit as command

    def say(line: str) -> None:
        typer.echo(line, err=True)

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    submission = command.plan(contract, run, profile=profile, changes=changes or [], working_dir=working_dir)
    client = command.connect(address)
    if stop:
        raise typer.Exit(command.stop(client, submission, say, waits=not detach))
    name = command.submit(client, submission, say)
    raise typer.Exit(0 if detach else command.follow(client, name, say, write))
