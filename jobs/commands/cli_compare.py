"""The command `rayleigh compare`."""

from typing import Annotated

import typer

from jobs.terminal.arguments import Json, show


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Run folders; the first is held beside each other one.")],
    page: Annotated[str | None, typer.Option("--page", metavar="FILE", help="Also write it as a self-contained HTML page.")] = None,
    as_json: Json = False,
) -> None:
    """Say what differs between runs (contract, prompts, answers, pools, dataset, students, gate, costs) and what moved."""
    from jobs.commands import compare, compare_text

    result = compare.compare(runs)
    if page:
        compare.write_page(result, page)
    show(result, compare_text.as_text(result) + (f"\n\npage     {page}" if page else ""), as_json)
