"""The command `rayleigh explain`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, show


def explain(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A path such as students.epochs or judges.checks.numeric.max, or the end of one.")
    ],
    as_json: Json = False,
) -> None:
    """Say what KEY of a contract or profile means: type, default, values, place, and which jobs a change reruns."""
    from jobs.commands import explain

    result = explain.explain(key)
    show(result, explain.as_text(result), as_json)
