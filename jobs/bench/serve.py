"""`rayleigh bench serve`: the server against vLLM's own, spans against plain decoding, and the server with a shadow against itself.

Two servers take turns with the same requests, so that a busy machine slows both alike. vLLM's own server (its OpenAI API, with an
engine in processes of its own) has the same weights, engine arguments and threads, and gets what the release adds to a request from
its client: the system text, worked examples, and the schema with the prompt's spans. `--json` prints a `ServeBench`.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from engine.contract.profile import load_profile
from engine.errors import InputError, ModelError
from engine.records.base import Record
from engine.serving.deployment import Deployment
from jobs import places
from jobs.bench import smoke, turns
from jobs.bench.load import READY_SECONDS, Call, Latency, Sent, Server, latency, rayleigh_serve, send_waiting
from jobs.bench.overload import allow_files, calls_of, served
from jobs.bench.serve_sides import TEXTS, challenger_of, decode, peer_call, start_peer
from jobs.terminal.console import columns

PARTS = ("http", "spans", "shadow")
SHADOW_CALLERS, SHADOW_TIMES = 8, 2  # callers while a shadow answers, and how many times as long a round is: for the 95 %
SHADOW_IDLE_SECONDS = 30.0  # at most, for a shadow to finish its queue before the other server's turn


class Order(NamedTuple):
    """What is measured, and for how long."""

    parts: Sequence[str] = PARTS
    callers: Sequence[int] = (1, 8, 32)
    rounds: int = 3
    seconds: float = 5.0
    """Of a round of one server, about."""
    prompts: int = 96
    """Of a round of spans and of plain decoding."""
    share: float = 0.25
    """Of the requests that the shadow answers, too."""


class Turn(Record):
    """One round: the same requests to both."""

    first: Latency
    second: Latency


class Pair(Record):
    """Two servers that took turns. Ratios are medians over the rounds of the ratio within a round."""

    callers: int
    requests: int
    """Of a round, to each server."""
    per_second: float
    """Requests a second: the first by the second."""
    p95: float
    """95 % quantile of the latency: the first by the second."""
    same_texts: float
    """Share of requests that got the same text from both."""
    turns: tuple[Turn, ...]


class Spans(Record):
    """One engine that decodes with spans, and without any constraint, in turns."""

    spans_per_second: tuple[float, ...]
    """Answer tokens a second, by round."""
    plain_per_second: tuple[float, ...]
    ratio: float


class ServeBench(Record):
    """The result. A part that was not measured is null or empty."""

    http: tuple[Pair, ...] = ()
    """First: `rayleigh serve`; second: vLLM's server."""
    spans: Spans | None = None
    shadow: Pair | None = None
    """First: with a shadow; second: without."""
    shadow_pairs: int = 0
    """Requests that the shadow was asked, cut answers included. It gets the time that nothing else wants: 0 on a busy machine."""


class Side(NamedTuple):
    """A server, and the request that it gets for a text."""

    server: Server
    call: Callable[[str], Call]


def bench(release: str, order: Order, *, profile: str) -> ServeBench:
    """Return the ratios.

    Raises:
        InputError: there is no such part; vLLM cannot serve the release's model.
        MissingArtifact: there is no release.
        ModelError: a server does not start, or refuses a request.
    """
    if unknown := [part for part in order.parts if part not in PARTS]:
        raise InputError(f"--part {unknown[0]}: found an unknown part, expected one of {', '.join(PARTS)}.")
    deployment, _ = served(release, profile)
    if "http" in order.parts and deployment.manifest.student.model["type"] != "vllm":
        kind = deployment.manifest.student.model["type"]
        raise InputError(f"{release}: its model is of type {kind}, which vLLM's server does not serve. Measure --part shadow.")
    allow_files(max(order.callers) * 4)
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as scratch:
        http = _http(release, deployment, order, Path(scratch), profile) if "http" in order.parts else ()
        spans = _spans(release, order, profile) if "spans" in order.parts else None
        shadow, pairs = _shadow(release, deployment, order, Path(scratch), profile) if "shadow" in order.parts else (None, 0)
    return ServeBench(http=http, spans=spans, shadow=shadow, shadow_pairs=pairs)


def as_text(result: ServeBench) -> str:
    """Return the tables."""
    head = ["callers", "requests", "requests/s", "", "ratio", "p95 ms", "", "ratio", "same texts"]
    lines = []
    if result.http:
        lines += ["rayleigh serve, and vLLM's own server", columns([_row(pair) for pair in result.http], head=head)]
    if result.spans:
        spans, plain = (f"{statistics.median(each):.0f}" for each in (result.spans.spans_per_second, result.spans.plain_per_second))
        lines.append(f"spans {spans} tokens/s, plain decoding {plain}: ratio {result.spans.ratio:.3f}")
    if result.shadow:
        lines += [f"with a shadow ({result.shadow_pairs} requests asked), and without", columns([_row(result.shadow)], head=head)]
    return "\n".join(lines)


def take_turns(first: Side, second: Side, callers: int, order: Order, idle: Callable[[], None] = lambda: None) -> Pair:
    """Return how two servers compare. `idle` waits after each turn until nothing of it is left to compute."""
    texts = cycle(smoke.mails(TEXTS))
    warm = list(islice(texts, 2 * callers))
    seconds = max(_send(side, warm, callers)[1] for side in (first, second))
    count = max(2 * callers, round(order.seconds * len(warm) / seconds))
    found, same = list[Turn](), list[bool]()
    for number in range(order.rounds):
        chosen, replies = list(islice(texts, count)), dict[int, tuple[list[Sent], float]]()
        for place, side in sorted(enumerate((first, second)), reverse=bool(number % 2)):
            replies[place] = _send(side, chosen, callers)
            idle()
        found.append(Turn(first=latency(*replies[0]), second=latency(*replies[1])))
        same += [_text(one) == _text(other) for one, other in zip(replies[0][0], replies[1][0], strict=True)]
    return Pair(
        callers=callers, requests=count, turns=tuple(found), same_texts=round(sum(same) / len(same), 4),
        per_second=_median(turn.first.per_second / turn.second.per_second for turn in found),
        p95=_median(turn.first.p95_ms / turn.second.p95_ms for turn in found),
    )  # fmt: skip


def _http(release: str, deployment: Deployment, order: Order, scratch: Path, profile: str) -> tuple[Pair, ...]:
    pool = load_profile(places.profile_path(profile)).evaluator_of(deployment.manifest.student.name)
    ours = rayleigh_serve(release, scratch / "ours.log", os.environ, profile=profile)
    with _ending(ours):
        ours.wait()  # one after the other: loading takes the whole machine
        peer = start_peer(deployment, pool, scratch / "vllm.log")
        with _ending(peer):
            peer.wait()
            sides = Side(ours, partial(_our_call, deployment)), Side(peer, partial(peer_call, deployment))
            return tuple(take_turns(*sides, callers, order) for callers in order.callers)


def _our_call(deployment: Deployment, text: str) -> Call:
    return calls_of(deployment, [text])[0]


def _spans(release: str, order: Order, profile: str) -> Spans:
    worker = turns.Worker(partial(decode, release), order.prompts, str(places.profile_path(profile)), pool="evaluator")
    try:
        rounds = [worker.round(number).per_second for number in range(1, 2 * order.rounds + 1)]
    finally:
        worker.end()
    spans, plain = rounds[0::2], rounds[1::2]
    ratio = _median(one / other for one, other in zip(spans, plain, strict=True))
    return Spans(spans_per_second=tuple(spans), plain_per_second=tuple(plain), ratio=ratio)


def _shadow(release: str, deployment: Deployment, order: Order, scratch: Path, profile: str) -> tuple[Pair, int]:
    challenger = challenger_of(deployment, scratch / "challenger")
    shadow = ["--shadow", str(challenger), "--shadow-share", f"{order.share:g}"]
    starts = [(name, ["--records", str(scratch / name), *more]) for name, more in (("with", shadow), ("without", []))]
    kept, without = (rayleigh_serve(release, scratch / f"{n}.log", os.environ, *o, profile=profile) for n, o in starts)
    with _ending(kept), _ending(without):
        kept.wait()
        without.wait()
        if not _until(lambda: kept.numbers()["rayleigh_shadow_ready"] == 1, READY_SECONDS):
            raise ModelError("the challenger in shadow does not load")
        call = partial(_our_call, deployment)

        def idle() -> None:
            _until(lambda: kept.numbers()["rayleigh_shadow_waiting"] == 0, SHADOW_IDLE_SECONDS)

        longer = order._replace(seconds=order.seconds * SHADOW_TIMES)
        pair = take_turns(Side(kept, call), Side(without, call), SHADOW_CALLERS, longer, idle)
        _until(lambda: _compared(kept) > 0, SHADOW_IDLE_SECONDS)
        return pair, _compared(kept)


def _compared(server: Server) -> int:
    numbers = server.numbers()
    return int(numbers["rayleigh_shadow_pairs"] + numbers["rayleigh_shadow_unpaired"])


@contextmanager
def _ending(server: Server) -> Iterator[None]:
    try:
        yield
    finally:
        server.end()


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until `holds()`, at most `seconds`; return whether it does."""
    until = time.monotonic() + seconds
    while not (is_so := holds()) and time.monotonic() < until:
        time.sleep(0.2)
    return is_so


def _send(side: Side, texts: Sequence[str], callers: int) -> tuple[list[Sent], float]:
    return send_waiting(side.server.url, [side.call(text) for text in texts], callers)


def _text(sent: Sent) -> str | None:
    return json.loads(sent.text)["choices"][0]["message"]["content"]


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 3)


def _row(pair: Pair) -> list[Any]:
    sides = [turn.first for turn in pair.turns], [turn.second for turn in pair.turns]
    per_second = [round(statistics.median(each.per_second for each in side), 2) for side in sides]
    p95 = [round(statistics.median(each.p95_ms for each in side), 1) for side in sides]
    return [pair.callers, pair.requests, *per_second, pair.per_second, *p95, pair.p95, pair.same_texts]
