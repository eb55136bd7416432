"""The command `rayleigh init`: its flags, and its questions on a terminal."""

import sys
from typing import Annotated, Any

import typer

from jobs.terminal.arguments import Json, show

KINDS = "extraction, classification, rewriting, tool-use, reasoning"


def init(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Where contract.yaml and its seeds are written; nothing is overwritten.")
    ],
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help=f"{KINDS}.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the contract; default that of FOLDER.")
    ] = None,
    goal: Annotated[str | None, typer.Option("--goal", metavar="TEXT", help="What the model shall do, in a sentence.")] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="MODEL", help="A folder of weights; default smollm2-135m-instruct.")
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option("--accuracy", min=0, max=1, help="Share of right answers that a student must reach.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a contract and example seeds for a kind of task. Asks what no flag says, on a terminal only."""
    from jobs.commands import init

    if is_terminal() and not as_json:
        kind = kind or str(_ask("Kind of task", KINDS.partition(",")[0], hint=KINDS))
        default = init.DEFAULTS.get(kind, init.DEFAULTS["extraction"])
        name = name or _ask("Name of the contract", init.default_name(folder))
        goal = goal or _ask("What shall the model do", default.goal)
        teacher = teacher or _ask("Teacher", init.TEACHER)
        accuracy = _ask("Share of right answers to reach", default.accuracy) if accuracy is None else accuracy
    if kind is None:
        raise typer.BadParameter(f"expected one of {KINDS}; without a terminal nothing is asked.", param_hint="--kind")
    result = init.start(folder, init.Answers(kind, name, goal, teacher, accuracy))
    show(result, init.as_text(result), as_json)


def is_terminal() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty()


def _ask(question: str, default: Any, *, hint: str = "") -> Any:
    return typer.prompt(f"{question} ({hint})" if hint else question, default=default, err=True)
