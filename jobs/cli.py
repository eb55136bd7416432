"""The command `rayleigh`: parse first, import what is heavy later. What a command does stands in the module of its name."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from engine.errors import RayleighError
from jobs.bench.commands import bench
from jobs.commands.cli_review import review
from jobs.terminal.arguments import Changes, Json, Order, Profile, Registry, Run, Until, show


class ErrorGroup(TyperGroup):
    """Ends a command with one clean message where a person must act; anything else is a bug and shows its traceback."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except RayleighError as error:
            _complain(f"{type(error).__name__}: {error}", error)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            _complain("Stopped.", stop)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=ErrorGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a quarter of a second of imports for a frame around the help
    help="Distil large teachers into small specialists: a contract in, a student that keeps it out.",
)
app.add_typer(bench, name="bench")


@app.command()
def check(contract: Order, changes: Changes = None, as_json: Json = False) -> None:
    """Say what CONTRACT orders, and whether its files and models are there."""
    from pathlib import Path

    from engine.contract import load_contract
    from jobs import workspace
    from jobs.commands import check

    loaded = load_contract(Path(contract), changes or [])
    check.verify(loaded.contract, root=str(loaded.root), models=workspace.models_home())
    show(loaded.contract.model_dump(mode="json"), check.as_text(loaded.contract, contract), as_json)


@app.command()
def run(contract: Order, run: Run, profile: Profile = "laptop", changes: Changes = None, until: Until = None) -> None:
    """Run what is not finished of CONTRACT in the folder RUN."""
    from jobs.commands import run as command

    command.run(contract, run, profile=profile, changes=changes or [], until=until)


@app.command()
def plan(
    contract: Order,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder that will be used; default runs/NAME.")] = None,
    pilot: Annotated[int, typer.Option("--pilot", min=2, metavar="PROMPTS", help="Prompts to answer for real.")] = 20,
    profile: Profile = "laptop",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Answer a few prompts of CONTRACT, and say what all will take: tokens, time, money, bytes."""
    from jobs.commands import plan

    found = plan.plan(contract, run, pilot=pilot, profile=profile, changes=changes or [])
    show(found, plan.as_text(found, contract), as_json)


@app.command()
def judge(
    contract: Order,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Run folder that keeps what is paid; default runs/NAME.")] = None,
    gold: Annotated[str | None, typer.Option("--gold", metavar="FILE", help="Labelled items; default the contract's.")] = None,
    profile: Profile = "laptop",
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Say what the judge of CONTRACT is worth: agreement with labelled items, biases, and whether it may decide."""
    from jobs.commands import judge

    found = judge.judge(contract, run, gold=gold, profile=profile, changes=changes or [])
    show(found, judge.as_text(found), as_json)


@app.command()
def status(run: Run, as_json: Json = False) -> None:
    """Show how far RUN is, and rows in and out of each job."""
    from jobs.commands import status

    found = status.status(run)
    show(found, status.as_text(found), as_json)


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Show how the models of RUN compare, and where the page is."""
    from jobs.commands import summary

    found = summary.report(run)
    show(found, summary.text(run, found), as_json)


@app.command()
def sql(run: Run, query: Annotated[str, typer.Argument(metavar="QUERY")], as_json: Json = False) -> None:
    """Answer a SELECT over the tables of RUN; --json gives one line a row."""
    from jobs.commands import sql

    answer = sql.Views(run).query(query)
    for line in sql.as_lines(answer) if as_json else sql.as_table(answer):
        typer.echo(line)


@app.command()
def trace(
    run: Run,
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A student's name, or an answer's or prompt's id (6 characters do).")],
    as_json: Json = False,
) -> None:
    """Walk back from ID to the line of the file that it came from."""
    from jobs.commands import trace

    found = trace.trace(run, wanted)
    show(found, trace.as_text(found), as_json)


@app.command()
def rejudge(
    run: Run,
    contract: Annotated[str | None, typer.Option("--contract", metavar="FILE", help="Whose judge; default RUN's own.")] = None,
    changes: Changes = None,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Default RUN's own.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Make the result RUN's candidates.")] = False,
    as_json: Json = False,
) -> None:
    """Grade the answers of RUN with another judge, and say what moves between pools and why; no teacher is asked."""
    from jobs.commands import rejudge

    found = rejudge.rejudge(run, contract=contract, changes=changes or [], profile=profile, write=write)
    show(found, rejudge.as_text(found), as_json)


@app.command()
def ablate(
    run: Run,
    student: Annotated[str, typer.Option("--student", metavar="NAME", help="Which of the contract is trained.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Trainings of each subset.")] = 3,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Default the student's own.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Default RUN's own.")] = None,
    as_json: Json = False,
) -> None:
    """Train a student on all answers of RUN, and on those that checks and judge leave, equally many; say what each is worth."""
    from jobs.commands import ablate

    found = ablate.ablate(run, student=student, seeds=seeds, epochs=epochs, profile=profile)
    show(found, ablate.as_text(found), as_json)


@app.command()
def promote(
    run: Run,
    registry: Registry = None,
    student: Annotated[
        str | None, typer.Option("--student", metavar="NAME", help="This one; default the smallest that passes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the smallest student of RUN that passes the gate the champion."""
    from jobs import workspace
    from jobs.commands import release, summary

    folder = workspace.reopen(run).folder
    found = release.promote(folder.url, workspace.registry(registry, folder), student)
    show(found, summary.of_release(found), as_json)


@app.command()
def rollback(
    name: Annotated[
        str, typer.Argument(metavar="RUN_OR_CONTRACT_NAME", help="Whose champion; a bare name is looked up in --registry.")
    ],
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Return to the champion before today's."""
    from jobs import workspace
    from jobs.commands import release, summary

    contract, folder = workspace.contract_of(name)
    found = release.rollback(workspace.registry(registry, folder), contract)
    show(found, summary.of_release(found), as_json)


@app.command()
def dedup(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Parquet or JSONL: a file, folder, glob or fsspec URL.")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="A new folder or fsspec URL, for the rows that stay.")],
    text_column: Annotated[str, typer.Option("--text-column", metavar="NAME", help="What is compared.")] = "text",
    id_column: Annotated[
        str | None, typer.Option("--id-column", metavar="NAME", help="Default `id`; else rows are called by file and row.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="Similarity of copies; default 0.7, semantic 0.95.")
    ] = None,
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="exact, minhash or semantic.")] = "minhash",
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="Of semantic: a sentence-transformers folder.")
    ] = "all-minilm-l6-v2",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="COLUMN", help="Keep the highest; or `shortest`, `longest`; again for ties, last the lowest id."
        ),
    ] = None,
    against: Annotated[str | None, typer.Option("--against", metavar="PATH", help="Rows that were there before, and win.")] = None,
    index: Annotated[
        str | None, typer.Option("--index", metavar="FOLDER", help="Compare with what this folder knows, and add the new rows.")
    ] = None,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Write the rows of INPUT that are no copy of another into OUTPUT."""
    from jobs.commands import dedup

    options = dedup.Options(text_column, id_column, threshold, method, model, tuple(keep or ()), against, index)
    found = dedup.dedup(source, output, options, profile=profile)
    show(found, dedup.as_text(found), as_json)


@app.command()
def doctor(profile: Profile = "laptop", as_json: Json = False) -> None:
    """Check this machine, and say how to mend what is not right."""
    from jobs.commands import doctor

    found = doctor.doctor(profile)
    show(found, doctor.as_text(found), as_json)
    if not all(one["ok"] for one in found["checks"]):
        raise typer.Exit(1)


app.add_typer(review, name="review")


def _complain(message: str, error: BaseException) -> None:
    typer.echo("\n".join([message, *getattr(error, "__notes__", [])]), err=True)


def main() -> None:
    """Where the installed command starts."""
    app(prog_name="rayleigh")


if __name__ == "__main__":
    main()
