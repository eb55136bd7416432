"""The command `rayleigh ablate`: its arguments."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Run, show

ablation = typer.Typer()


@ablation.command()
def ablate(
    run: Run,
    student: Annotated[
        str | None, typer.Option("--student", metavar="NAME", help="Student of the contract to train; default the smallest.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Trainings per set of examples.")] = 3,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Default that of the student.")] = None,
    buckets: Annotated[
        bool, typer.Option("--buckets", help="Leave out each teacher, pool, tier, synthesis, part of the target ... in turn.")
    ] = False,
    curve: Annotated[bool, typer.Option("--curve", help="Train on 25, 50 and 100 % of the examples.")] = False,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Default that of RUN.")] = None,
    as_json: Json = False,
) -> None:
    """Train a student on sets of the examples of RUN, and compare the results: with and without checks and judge (default), without
    each bucket of the examples, or on shares of them."""
    from engine.errors import InputError
    from jobs.commands import ablate, ablate_buckets, ablate_curve

    if buckets and curve:
        raise InputError("--buckets and --curve: found both, expected one of them; call the command twice.")
    if buckets:
        attribution = ablate_buckets.ablate(run, student=student, seeds=seeds, epochs=epochs, profile=profile)
        show(attribution, ablate_buckets.as_text(attribution), as_json)
    elif curve:
        learnt = ablate_curve.ablate(run, student=student, seeds=seeds, epochs=epochs, profile=profile)
        show(learnt, ablate_curve.as_text(learnt), as_json)
    else:
        result = ablate.ablate(run, student=student, seeds=seeds, epochs=epochs, profile=profile)
        show(result, ablate.as_text(result), as_json)
