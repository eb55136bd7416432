"""The command `rayleigh`: it parses arguments and only then imports the module of the command, so that `--help` is quick."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from engine.errors import RayleighError
from jobs.bench.commands import bench
from jobs.commands.cli_ablate import ablation
from jobs.commands.cli_cascade import cascade
from jobs.commands.cli_compare import compare
from jobs.commands.cli_dedup import dedup
from jobs.commands.cli_explain import explain
from jobs.commands.cli_export import export
from jobs.commands.cli_init import init
from jobs.commands.cli_iterate import iterate
from jobs.commands.cli_manifests import check_manifests, manifests
from jobs.commands.cli_plan import plan
from jobs.commands.cli_review import review
from jobs.commands.cli_search import search
from jobs.commands.cli_serve import serve
from jobs.commands.cli_sql import sql
from jobs.commands.cli_submit import submit
from jobs.commands.cli_tables import tables
from jobs.commands.cli_view import view
from jobs.commands.cli_watch import watch
from jobs.commands.cli_withdraw import withdraw
from jobs.terminal.arguments import Changes, Contract, Json, Profile, Registry, Run, Until, show
from jobs.terminal.examples import add_examples

ORDER = (
    "init", "explain", "check", "plan", "run", "status", "report", "view", "sql", "compare", "trace", "review", "judge", "rejudge",
    "search", "ablate", "cascade", "promote", "rollback", "serve", "watch", "iterate", "withdraw", "export", "dedup", "check-data",
    "schema", "manifests", "check-manifests", "submit", "doctor", "bench",
)  # fmt: skip
"""The commands as the help lists them: in the order in which a user meets them."""


class ErrorGroup(TyperGroup):
    """Prints errors that a person must act on as one message; any other exception is a bug and shows its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in ORDER."""
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def invoke(self, ctx: Any) -> Any:  # typer keeps the class of `ctx` in a private package
        """Run the command; exit with the code of a RayleighError (1, or 3 if no answer was usable), with 130 after Ctrl-C."""
        try:
            return super().invoke(ctx)
        except RayleighError as error:
            _print_error(f"{type(error).__name__}: {error}", error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as stop:
            _print_error("Stopped.", stop)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=ErrorGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a quarter of a second of imports for a frame around the help
    help="Distil large teachers into small specialists: a contract in, a student that meets it out.",
    epilog="Exit codes: 0 success, 1 an error to act on, 2 wrong usage, 3 no answer of the teachers was usable, 130 stopped.",
)
app.add_typer(bench, name="bench")
app.add_typer(review, name="review")
app.add_typer(ablation)  # without a name: its command is one of ours
app.add_typer(tables)
for command in (
    cascade, check_manifests, compare, dedup, explain, export, init, iterate,
    manifests, plan, search, serve, sql, submit, view, watch, withdraw,
):  # fmt: skip
    app.command()(command)


@app.command()
def check(
    contract: Contract,
    changes: Changes = None,
    ask: Annotated[bool, typer.Option("--ask", help="Send each server one short request a schema; this may cost.")] = False,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="Whether this cluster can place the run.")
    ] = None,
    nodes: Annotated[
        str | None, typer.Option("--nodes", metavar="FILE", help="YAML with `nodes`, in place of those of the profile.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Validate CONTRACT, and check that its files and models are there."""

    from engine.contract.load import load_contract
    from engine.contract.profile import load_profile
    from jobs import places
    from jobs.commands import check, check_capture, check_schemas

    loaded = load_contract(contract, changes or [])
    check.verify(loaded.contract, root=loaded.root, models=places.models_home())
    check.verify_sources(loaded.contract, root=loaded.root)
    servers = check_schemas.ask_servers(loaded.contract) if ask else check_schemas.unasked_servers(loaded.contract)
    servers += check_capture.ask_captured(loaded.contract, root=loaded.root) if ask else []
    text = check.as_text(loaded.contract, contract, servers)
    if profile or nodes:
        from jobs.commands.check_nodes import check_nodes
        from jobs.commands.check_placement import check_placement

        found = load_profile(places.profile_path(profile or "laptop"))
        parts = [text, check_nodes(loaded.contract, found, loaded.root), check_placement(loaded.contract, found, nodes)]
        text = "\n\n".join(filter(None, parts))
    show(loaded.contract.model_dump(mode="json"), text, as_json)


@app.command()
def run(contract: Contract, run: Run, profile: Profile = "laptop", changes: Changes = None, until: Until = None) -> None:
    """Run the unfinished jobs of CONTRACT in the folder RUN."""
    from jobs.commands import run as command

    command.run(contract, run, profile=profile, changes=changes or [], until=until)


@app.command()
def judge(
    contract: Contract,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder that keeps paid answers; default runs/NAME.")] = None,
    gold: Annotated[
        str | None, typer.Option("--gold", metavar="FILE", help="Labelled items; default those of the contract.")
    ] = None,
    profile: Profile = "laptop",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Measure the judge of CONTRACT: agreement with labelled items, biases, and whether it may decide."""
    from jobs.commands import judge

    result = judge.judge(contract, run, gold=gold, profile=profile, changes=changes or [])
    show(result, judge.as_text(result), as_json)


@app.command()
def status(run: Run, as_json: Json = False) -> None:
    """Show the state of RUN, and rows in and out of each job."""
    from jobs.commands import status

    result = status.status(run)
    show(result, status.as_text(result), as_json)


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Compare the models of RUN, and show where the HTML page is."""
    from jobs.commands import summary

    result = summary.report(run)
    show(result, summary.text(run, result), as_json)


@app.command()
def trace(
    run: Run,
    identifier: Annotated[
        str,
        typer.Argument(metavar="ID", help="A student's name, that of an export (s.q8_0), or an answer's or prompt's id."),
    ],
    as_json: Json = False,
) -> None:
    """Trace ID back to the line of the source file that it came from."""
    from jobs.commands import trace

    result = trace.trace(run, identifier)
    show(result, trace.as_text(result), as_json)


@app.command()
def rejudge(
    run: Run,
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="FILE", help="Contract of the new judge; default that of RUN.")
    ] = None,
    changes: Changes = None,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Default that of RUN.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace the candidates of RUN by the result.")] = False,
    as_json: Json = False,
) -> None:
    """Grade the answers of RUN with another judge, and show which move between pools and why; no teacher is asked."""
    from jobs.commands import rejudge

    result = rejudge.rejudge(run, contract=contract, changes=changes or [], profile=profile, write=write)
    show(result, rejudge.as_text(result), as_json)


@app.command()
def promote(
    run: Run,
    registry: Registry = None,
    student: Annotated[
        str | None, typer.Option("--student", metavar="NAME", help="Student or export; default the smallest that passes the gate.")
    ] = None,
    point: Annotated[bool, typer.Option("--point", help="Compare point values with the contract; proves nothing.")] = False,
    undecided: Annotated[bool, typer.Option("--undecided", help="Promote a student on which the gate is undecided, too.")] = False,
    why: Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Reason for --undecided; the registry keeps it.")] = None,
    as_json: Json = False,
) -> None:
    """Make the smallest student or export of RUN that passes the gate the champion."""
    from jobs import workspace
    from jobs.commands import release, summary

    folder = workspace.reopen(run).folder
    terms = release.Terms(student, by_point=point, undecided=undecided, why=why)
    result = release.promote(folder.url, workspace.registry(registry, folder), terms)
    show(result, summary.of_release(result), as_json)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(metavar="RUN_OR_CONTRACT_NAME", help="Run folder, or name of a contract in --registry.")],
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Return to the previous champion."""
    from jobs import workspace
    from jobs.commands import release, summary

    contract, folder = workspace.contract_of(name)
    result = release.rollback(workspace.registry(registry, folder), contract)
    show(result, summary.of_release(result), as_json)


@app.command()
def doctor(profile: Profile = "laptop", as_json: Json = False) -> None:
    """Check this machine, and show how to fix what is wrong."""
    from jobs.commands import doctor

    result = doctor.doctor(profile)
    show(result, doctor.as_text(result), as_json)
    if not all(check.ok for check in result.checks):
        raise typer.Exit(1)


add_examples(app)


def _print_error(message: str, error: BaseException) -> None:
    typer.echo("\n".join([message, *getattr(error, "__notes__", [])]), err=True)


def main() -> None:
    """Entry point of the installed command."""
    app(prog_name="rayleigh")


if __name__ == "__main__":
    main()
