"""`rayleigh bench`: parse first, import what is heavy later."""

import sys
from typing import Annotated

import typer

from jobs.terminal.arguments import Json, Profile, show

bench = typer.Typer(no_args_is_help=True, help="Measure how fast the engine is.")


@bench.command()
def flow(
    rows: Annotated[list[int] | None, typer.Option("--rows", metavar="N", help="Prompts; again for more sizes.")] = None,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the engine around a teacher that answers at once: rows per second and core, memory, the way back from the ledger."""
    from jobs.bench import flow

    found = flow.bench(rows or flow.SIZES, profile=profile)
    show({"sizes": found}, flow.as_text(found), as_json)


@bench.command()
def generate(
    prompts: Annotated[int, typer.Option("--prompts", help="Mails that are asked about.")] = 150,
    rounds: Annotated[int, typer.Option("--rounds", help="Turns of bare vLLM and the teacher.")] = 3,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the default teacher against bare vLLM: alone, and in the whole job without and with its judge."""
    from jobs.bench import generate

    found = generate.bench(prompts, rounds, profile=profile)
    show(found, generate.as_text(found), as_json)


@bench.command(name="judge")
def judge_bench(
    answers: Annotated[int, typer.Option("--answers", help="Answers that are marked.")] = 300,
    rounds: Annotated[int, typer.Option("--rounds", help="Turns of bare vLLM and the grader.")] = 3,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the default judge against bare vLLM on its own prompts: alone, and in `rayleigh rejudge`."""
    from jobs.bench import judge

    found = judge.bench(answers, rounds, profile=profile)
    show(found, judge.as_text(found), as_json)


@bench.command(name="dedup")
def dedup_bench(
    rows: Annotated[
        list[int] | None, typer.Option("--rows", metavar="N", help="Texts that are made for it; again for more.")
    ] = None,
    corpora: Annotated[list[str] | None, typer.Option("--corpus", metavar="FOLDER", help="Parquet with `id` and `text`.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Turns of all engines.")] = 1,
    peers: Annotated[str, typer.Option("--peers", metavar="PYTHON", help="The interpreter that has them.")] = sys.executable,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time `rayleigh dedup` against rensa, datasketch, datatrove and data-juicer, as far as they are installed."""
    from jobs.bench import dedup

    sizes = rows or ([] if corpora else dedup.SIZES)
    found = dedup.bench(sizes, corpora or [], rounds=rounds, python=peers, profile=profile)
    show(found, dedup.as_text(found), as_json)


@bench.command()
def semantic(
    texts: Annotated[int, typer.Option("--texts", help="Texts to embed, a third of them planted near-duplicates.")] = 1000,
    rounds: Annotated[int, typer.Option("--rounds", help="Turns of bare sentence-transformers and the op.")] = 3,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time embedding against bare sentence-transformers, and measure which planted near-duplicates are found."""
    from jobs.bench import semantic

    found = semantic.bench(texts, rounds, profile=profile)
    show(found, semantic.as_text(found), as_json)
