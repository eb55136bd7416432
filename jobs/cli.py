"""The command `rayleigh`: parse first, import what is heavy later. What to do stands in one module a command."""

import json
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from engine.errors import RayleighError


class Clean(TyperGroup):
    """Ends a command by one clean message where a person must act, by exit code; anything else is a bug and shows its traceback."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except RayleighError as error:
            _complain(error)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            _complain(stop, "Stopped.")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Clean,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil large teachers into small specialists: a contract in, a student that keeps it out.",
)

Run = Annotated[str, typer.Argument(help="Run folder: a local path or an fsspec URL.")]
Order = Annotated[str, typer.Argument(help="The contract, a YAML file.")]
Where = Annotated[str, typer.Option("--profile", help="A name in cluster/profiles, or a YAML file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change one value of the contract; again for more.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(contract: Order, run: Run, profile: Where = "laptop", changes: Changes = None) -> None:
    """Run what is not finished of CONTRACT in the folder RUN."""
    from jobs.run import run as start

    start(contract, run, profile=profile, changes=changes or [])


@app.command()
def status(run: Run, as_json: Json = False) -> None:
    """Show how far RUN is, and rows in and out of each job."""
    from jobs import status

    found = status.status(run)
    _show(found, status.as_text(found), as_json)


def _show(found: dict[str, Any], text: str, as_json: bool) -> None:
    typer.echo(json.dumps(found, indent=1) if as_json else text)


def _complain(error: BaseException, message: str = "") -> None:
    lines = [message or f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]
    typer.echo("\n".join(lines), err=True)


def main() -> None:
    """Where the installed command starts."""
    app(prog_name="rayleigh")


if __name__ == "__main__":
    main()
