"""The commands `rayleigh bench ...`: they parse arguments and only then import the benchmark."""

import sys
from typing import Annotated

import typer

from jobs.bench.cli_scale import scale
from jobs.terminal.arguments import Json, Profile, show

bench = typer.Typer(no_args_is_help=True, help="Measure the speed of the engine.")
bench.command()(scale)


@bench.command()
def flow(
    rows: Annotated[list[int] | None, typer.Option("--rows", metavar="N", min=1, help="Number of prompts; repeatable.")] = None,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the engine with a fake teacher: rows per second, CPU seconds, memory, and a rerun from the ledger."""
    from jobs.bench import flow

    result = flow.bench(rows or flow.SIZES, profile=profile)
    show(result, flow.as_text(result), as_json)


@bench.command()
def generate(
    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Prompts of a round.")] = 150,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of bare vLLM and the teacher.")] = 3,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the default teacher against bare vLLM: alone, and in whole jobs without and with the judge."""
    from jobs.bench import generate, turns

    result = generate.bench(prompts, rounds, profile=profile)
    text = f"{turns.as_text(result, unit='tokens')}\ngreedy texts that move with the rest of their batch: {result.moved:.1%}"
    show(result, text, as_json)


@bench.command(name="capture")
def capture_bench(
    examples: Annotated[int, typer.Option("--examples", min=1, help="Examples of a round.")] = 150,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each way.")] = 3,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the capture of the default teacher's distribution against bare vLLM, and measure its bytes."""
    from jobs.bench import capture

    result = capture.bench(examples, rounds, profile=profile)
    show(result, capture.as_text(result), as_json)


@bench.command(name="judge")
def judge_bench(
    answers: Annotated[int, typer.Option("--answers", min=1, help="Answers of a round.")] = 300,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of bare vLLM and the grader.")] = 3,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the default judge against bare vLLM on the same prompts: alone, and in `rayleigh rejudge`."""
    from jobs.bench import judge, turns

    result = judge.bench(answers, rounds, profile=profile)
    show(result, turns.as_text(result, unit="scores"), as_json)


@bench.command(name="dedup")
def dedup_bench(
    rows: Annotated[
        list[int] | None, typer.Option("--rows", metavar="N", help="Texts that are made for it; again for more.")
    ] = None,
    corpora: Annotated[list[str] | None, typer.Option("--corpus", metavar="FOLDER", help="Parquet with `id` and `text`.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of all engines.")] = 1,
    peers: Annotated[str, typer.Option("--peers", metavar="PYTHON", help="The interpreter that has them.")] = sys.executable,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time `rayleigh dedup` against rensa, datasketch, datatrove and data-juicer, as far as they are installed."""
    from jobs.bench import dedup

    sizes = rows or ([] if corpora else dedup.SIZES)
    result = dedup.bench(sizes, corpora or [], rounds=rounds, python=peers, profile=profile)
    show(result, dedup.as_text(result), as_json)


@bench.command()
def prune(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run, which is only read.")],
    work: Annotated[str, typer.Option("--work", metavar="FOLDER", help="Where this benchmark keeps its jobs.")],
    student: Annotated[str, typer.Option("--student", help="A student with init.prune, which it is compared with.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each init.")] = 5,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Cuts, as init.shrink.steps.")] = 3,
    recover_steps: Annotated[int, typer.Option("--recover-steps", min=0, help="Optimizer steps between two cuts.")] = 50,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the student's.")] = None,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Compare a student cut by importance, in depth and width, with one of hand-picked layers and as many parameters."""
    from jobs.bench.prune import Order, as_text
    from jobs.bench.prune import bench as compare

    order = Order(seeds, steps, recover_steps, epochs)
    result = compare(run, work, student=student, order=order, profile=profile)
    show(result, as_text(result), as_json)


@bench.command()
def recipe(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run, which is only read: its examples are learned.")],
    contracts: Annotated[
        list[str],
        typer.Option(
            "--contract", metavar="[LABEL=]FILE", help="Whose students are trained; repeatable, the first is compared with."
        ),
    ],
    work: Annotated[
        str, typer.Option("--work", metavar="FOLDER", help="Where this benchmark keeps its jobs; give it again to go on.")
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="[LABEL:]A.B=VALUE", help="Change a value of the contract LABEL, or of all; repeatable."),
    ] = None,
    students: Annotated[list[str] | None, typer.Option("--student", help="Default: all; repeatable.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each student.")] = 5,
    mails: Annotated[int, typer.Option("--mails", min=0, help="Unseen prompts; 0 = the holdout of the run.")] = 700,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Compare recipes of students over training seeds on unseen prompts, decoded as served, by the schema alone, and free."""
    from jobs.bench.recipe import Order, bench
    from jobs.bench.recipe_table import as_text

    result = bench(run, work, order=Order(contracts, sets or [], students or [], seeds, mails), profile=profile)
    show(result, as_text(result), as_json)


@bench.command()
def semantic(
    texts: Annotated[int, typer.Option("--texts", min=1, help="Texts to embed, a third of them planted near-duplicates.")] = 1000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of bare sentence-transformers and the op.")] = 3,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time embedding against bare sentence-transformers, and measure which planted near-duplicates are found."""
    from jobs.bench import semantic

    result = semantic.bench(texts, rounds, profile=profile)
    show(result, semantic.as_text(result), as_json)


@bench.command()
def train(
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="A finished run, which is only read.")],
    student: Annotated[str | None, typer.Option("--student", help="Default: the last one of the contract.")] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps of a round.")] = 8,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each way.")] = 3,
    minutes: Annotated[float, typer.Option("--minutes", min=0, help="No round begins that would end later, but the first.")] = 12,
    parts: Annotated[
        list[str] | None, typer.Option("--part", help="recipe, job, objectives or students; repeatable, default all.")
    ] = None,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time the training of a student: against TRL's SFTTrainer, a bare script, and with objectives that read a capture."""
    from jobs.bench.train import Order, as_text
    from jobs.bench.train import bench as measure

    order = Order(student, steps, rounds, parts or [], minutes)
    result = measure(run, order=order, profile=profile, log=lambda line: typer.echo(line, err=True))
    show(result, as_text(result), as_json)


@bench.command()
def cascade(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run, which is only read.")],
    student: Annotated[str | None, typer.Option("--student", help="Default: the most accurate one.")] = None,
    alphas: Annotated[list[float] | None, typer.Option("--alpha", help="Promised risk; repeatable.")] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Draws on which the promise is checked.")] = 500,
    splits: Annotated[int, typer.Option("--splits", min=1, help="Halves on which accuracy and cost are measured.")] = 200,
    peers: Annotated[str, typer.Option("--peers", metavar="PYTHON", help="The interpreter that has MAPIE.")] = sys.executable,
    as_json: Json = False,
) -> None:
    """Check how often certified thresholds break their promise on RUN's predictions, beside MAPIE, and what they bring."""
    from jobs.bench import cascade

    chosen = cascade.Plan(student=student, draws=draws, splits=splits)
    result = cascade.bench(run, peers, chosen._replace(alphas=alphas) if alphas else chosen)
    show(result, cascade.as_text(result), as_json)


@bench.command()
def monitor(
    streams: Annotated[int, typer.Option("--streams", min=50, help="Streams of each kind.")] = 1000,
    rows: Annotated[int, typer.Option("--rows", min=400, help="Rows of a stream.")] = 2000,
    peers: Annotated[str, typer.Option("--peers", metavar="PYTHON", help="The interpreter that has Evidently.")] = sys.executable,
    as_json: Json = False,
) -> None:
    """Measure false alarms and delay of the monitor beside oracles, and beside tests of every window (SciPy, Evidently)."""
    from jobs.bench import monitor

    result = monitor.bench(peers, monitor.Plan(streams=streams, rows=rows))
    show(result, monitor.as_text(result), as_json)


@bench.command()
def serve(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="REGISTRY/CONTRACT, whose champion is served, or the folder of a release.")
    ],
    callers: Annotated[list[int] | None, typer.Option("--callers", min=1, metavar="N", help="At once; default 1, 8, 32.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of both sides.")] = 3,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Of a turn, about.")] = 5.0,
    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Of a turn of spans and of plain decoding.")] = 96,
    share: Annotated[float, typer.Option("--shadow-share", min=0.01, max=1, help="Of the requests, in shadow.")] = 0.25,
    parts: Annotated[list[str] | None, typer.Option("--part", help="http, spans or shadow; repeatable, default all.")] = None,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Time `rayleigh serve` against vLLM's own server, spans against plain decoding, and a server with and without a shadow."""
    from jobs.commands.serve_environment import prepare

    prepare(release, profile)  # before torch is imported; both servers inherit it

    from jobs.bench import serve

    order = serve.Order(parts or serve.PARTS, callers or (1, 8, 32), rounds, seconds, prompts, share)
    result = serve.bench(release, order, profile=profile)
    show(result, serve.as_text(result), as_json)


@bench.command()
def overload(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="REGISTRY/CONTRACT, whose champion is served, or the folder of a release.")
    ],
    minutes: Annotated[float, typer.Option("--minutes", min=0.05, help="Of the load.")] = 10.0,
    times: Annotated[float, typer.Option("--times", min=0.1, help="Of the rate that it can serve, which is measured first.")] = 2.0,
    deadline: Annotated[float, typer.Option("--deadline", min=0.1, metavar="SECONDS", help="Of the server.")] = 30.0,
    queue: Annotated[int, typer.Option("--queue", min=0, metavar="N", help="Of the server.")] = 64,
    slow: Annotated[int, typer.Option("--slow", min=0, metavar="N", help="Connections that never end their request.")] = 10_000,
    profile: Profile = "laptop",
    as_json: Json = False,
) -> None:
    """Send a server more than it can serve, and hostile requests among it: memory, refusals, latency of what is served."""
    from jobs.commands.serve_environment import prepare

    prepare(release, profile)

    from jobs.bench import overload

    result = overload.bench(release, overload.Order(minutes, times, deadline, queue, slow), profile=profile)
    show(result, overload.as_text(result), as_json)


@bench.command(name="registry")
def registry_bench(
    processes: Annotated[int, typer.Option("--processes", min=1, help="That promote at the same time.")] = 8,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Promotions of each.")] = 20,
    kills: Annotated[int, typer.Option("--kills", min=0, help="Of processes, by SIGKILL.")] = 8,
    peers: Annotated[str, typer.Option("--peers", metavar="PYTHON", help="The interpreter that has MLflow.")] = sys.executable,
    as_json: Json = False,
) -> None:
    """Promote from processes that are killed among it, in our registry and with MLflow's aliases: events lost or overwritten."""
    from jobs.bench import registry

    result = registry.bench(peers, registry.Order(processes, turns, kills))
    show(result, registry.as_text(result), as_json)


@bench.command(name="view")
def view_bench(
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=200, help="Answers of the run.")] = 1_000_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Starts of the server.")] = 3,
    work: Annotated[
        str | None, typer.Option("--work", metavar="FOLDER", help="Where the run is kept; give it again to measure it again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Time the pages of `rayleigh view` over a run of many rows: seconds, and CPU seconds of the server."""
    from jobs.bench import view

    result = view.bench(rows, rounds, work)
    show(result, view.as_text(result), as_json)
