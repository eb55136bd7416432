"""The command `rayleigh serve`."""

from typing import Annotated, Literal

import typer

from jobs.terminal.arguments import Profile

CascadeFile = Annotated[
    str | None,
    typer.Option("--cascade", metavar="FILE", help="Answer by a certified threshold: a cascade.json of `rayleigh cascade`."),
]
Below = Annotated[
    Literal["teacher", "abstain"] | None,
    typer.Option("--fallback", help="Below the threshold. Default: the release's teacher if it can be asked, else abstain."),
]
WithTeacher = Annotated[
    bool, typer.Option("--with-teacher", help="Load a teacher that is no endpoint beside the student, with --local.")
]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="A promotion or rollback in the registry takes effect.")]
KeepPrevious = Annotated[
    bool, typer.Option("--keep-previous/--no-keep-previous", help="Keep the champion before loaded, for a rollback.")
]
ShadowModel = Annotated[
    str | None,
    typer.Option("--shadow", metavar="RELEASE|teacher", help="Who answers a sample of requests unseen, with --local."),
]
ShadowShare = Annotated[
    float | None, typer.Option("--shadow-share", min=0, max=1, metavar="SHARE", help="Of requests; default: the contract's.")
]
ShadowReference = Annotated[
    Literal["teacher", "champion"] | None,
    typer.Option("--shadow-reference", help="Whose answer is right. Default: a teacher behind an endpoint, else champion."),
]


def serve(
    place: Annotated[
        str, typer.Argument(metavar="RELEASE", help="REGISTRY/CONTRACT, whose champion is served, or the folder of a release.")
    ],
    local: Annotated[bool, typer.Option("--local", help="Serve in this process, without Ray Serve.")] = False,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="0: any free one.")] = 8000,
    replicas: Annotated[int, typer.Option("--replicas", min=1, metavar="N", help="Engines, with Ray Serve.")] = 1,
    keys_env: Annotated[
        str | None, typer.Option("--keys-env", metavar="NAME", help="Environment variable with API keys, separated by commas.")
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=0, metavar="N", help="Requests that may wait; further ones get 429.")] = 64,
    deadline: Annotated[float, typer.Option("--deadline", min=0.1, metavar="SECONDS", help="For one request; then 504.")] = 30.0,
    max_body: Annotated[int, typer.Option("--max-body", min=1024, metavar="BYTES", help="Of one request.")] = 262_144,
    connections: Annotated[int, typer.Option("--connections", min=1, metavar="N", help="Open connections at most.")] = 1024,
    records: Annotated[
        str | None, typer.Option("--records", metavar="FOLDER", help="Keep a row for each request here; `rayleigh sql` reads it.")
    ] = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep the redacted text of requests, not only its hash.")] = False,
    sample: Annotated[float, typer.Option("--sample", min=0, max=1, metavar="SHARE", help="Share of requests to record.")] = 1.0,
    days: Annotated[float | None, typer.Option("--days", min=0, metavar="DAYS", help="Remove records after this time.")] = None,
    cascade: CascadeFile = None,
    fallback: Below = None,
    with_teacher: WithTeacher = False,
    follow: Follow = True,
    keep_previous: KeepPrevious = True,
    shadow: ShadowModel = None,
    shadow_share: ShadowShare = None,
    shadow_reference: ShadowReference = None,
    profile: Profile = "laptop",
) -> None:
    """Answer requests with a release exactly as it was evaluated: OpenAI's chat completions, and typed tasks."""
    import logging

    from jobs.commands.serve_environment import prepare

    prepared = prepare(place, profile)  # before torch is imported

    from engine.serving.body import Limits
    from jobs.commands import serve, serve_cascade, serve_shadow

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    limits = Limits(body_bytes=max_body, deadline=deadline, queue=queue, connections=connections)
    options = serve.Options(
        keys_env, limits, records, keep_text=keep_text, sample=sample, days=days, host=host, port=port, replicas=replicas,
        cascade=serve_cascade.Order(cascade, fallback, with_teacher),
        place=place, follow=follow, keep_previous=keep_previous,
        shadow=serve_shadow.Order(shadow, shadow_share, shadow_reference),
    )  # fmt: skip
    serve.serve(prepared, options, lambda line: typer.echo(line, err=True), local=local)
