"""The command `rayleigh cascade`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Run, show


def cascade(
    run: Run,
    stages: Annotated[
        list[str] | None,
        typer.Option("--stage", metavar="NAME", help="Whom to ask, in order; repeatable. The last one needs no threshold."),
    ] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Share of wrong answers of a student, at most.")] = None,
    delta: Annotated[float | None, typer.Option("--delta", help="Probability that it is more, at most.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which half of the clusters certifies.")] = 0,
    niche: Annotated[
        bool | None,
        typer.Option(
            "--niche/--no-niche",
            help="Keep what is outside the niche from students; default if serving.cascade is set.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Certify confidence thresholds on half of RUN's holdout, measure the cascade on the other half, and write cascade.json."""
    from jobs.commands import cascade

    result = cascade.cascade(run, cascade.Order(tuple(stages or ()), alpha, delta, seed, niche))
    show(result, cascade.as_text(result), as_json)
