"""Reads requests and comparisons as their records appear, and feeds the monitor of each deployment.

A monitor needs baselines: rows of the holdout, or else the first rows of the stream, which a later change is held against. Signals
that a baseline has too few values of are not tested, and named as such. A monitor begins anew with another deployment.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.contract.serving import Monitor as Section
from engine.records.monitor import Alarm
from engine.records.watch import KeptMonitor, Recent, ShadowNow, Totals, WatchKept, WatchView
from engine.rows import Row
from engine.serving.router import STUDENT
from engine.serving.watched import Watched, plain
from engine.stats.intervals import Array

RECENT = 1000  # last requests whose latency counts
MINUTE = 60.0  # seconds over which the rate is taken


class Given(NamedTuple):
    """The baseline of one deployment: rows of its holdout."""

    deployment: str
    source: str
    rows: Sequence[Row]
    """With `confidence`, `text` (of the answer), `prompt`, perhaps `agrees` (with the teacher)."""
    labels: Sequence[object]
    """Their clusters."""


class Kept(NamedTuple):
    """What a `Watch` goes on from, and what it reads prompts with."""

    kept: WatchKept = WatchKept()
    bases: Mapping[str, Array] = {}
    """Deployment -> embeddings of its baseline, or of what was gathered of it."""
    embed: Callable[[Sequence[str]], Array] | None = None
    """Texts -> unit vectors; None: prompts are not looked at."""


class Watch:
    """Everything that is known of the records in one folder."""

    def __init__(self, section: Section, *, first: int = 500, given: Given | None = None, kept: Kept | None = None) -> None:
        """`first`: requests that become the baseline of a deployment of which none is `given`."""
        self.section, self.first, self.given = section, first, given
        before, bases, self.embed = kept or Kept()
        self.totals = before.totals.model_dump()
        self.recent: deque[Recent] = deque(before.recent, maxlen=RECENT)
        self.comparisons = {name: each.model_dump() for name, each in before.comparisons.items()}
        self.monitors = {name: Watched(name, section, first, each, bases.get(name)) for name, each in before.monitors.items()}
        self.last = next(reversed(self.monitors), "")

    def requests(self, rows: Sequence[Row]) -> list[Alarm]:
        """Read rows of the table of requests; return the alarms that they raise."""
        raised: list[Alarm] = []
        vectors = self._vectors([row for row in rows if row["status"] == 200])
        for row in rows:
            self._count(row)
            if row["status"] == 200 and row["deployment"]:
                vector = vectors.get(row["request_id"])
                raised += self._of(row["deployment"]).observe(row["request_id"], signals(row), row["answer"], vector)
                self.last = row["deployment"]
        return raised

    def shadows(self, rows: Sequence[Row]) -> list[Alarm]:
        """Read rows of the table of comparisons; return the alarms that they raise."""
        raised: list[Alarm] = []
        for row in rows:
            self._compare(row)
            agrees = row["agrees"] if row["challenger"] == row["champion"] else row["champion_agrees"]
            if agrees is not None:
                raised += self._of(row["champion"]).observe(row["request_id"], {"agreement": float(agrees)})
        return raised

    def bases(self) -> dict[str, Array]:
        """Return the embeddings of each deployment's baseline, or of what was gathered of it, (prompts, dimensions)."""
        found = {name: each.embeddings() for name, each in self.monitors.items()}
        return {name: each for name, each in found.items() if each is not None}

    def kept(self, requests: Mapping[str, int], shadows: Mapping[str, int]) -> WatchKept:
        """Return what another `Watch` goes on from; the arguments say how far the tables were read."""
        ordered = sorted(self.monitors, key=lambda name: name == self.last)
        return WatchKept(
            requests=dict(requests),
            shadows=dict(shadows),
            totals=Totals.model_validate(self.totals),
            recent=tuple(self.recent),
            monitors={name: self.monitors[name].kept() for name in ordered},
            comparisons={name: ShadowNow.model_validate(each) for name, each in self.comparisons.items()},
        )

    def view(self, records: str, now: float | None = None) -> WatchView:
        """Return what is known now."""
        now = time.time() if now is None else now
        latencies = [each.latency_ms for each in self.recent if each.status == 200]
        ordered = sorted(self.monitors.values(), key=lambda each: each.deployment != self.last)
        p50, p95 = (round(float(np.quantile(latencies, share)), 1) if latencies else None for share in (0.5, 0.95))
        return WatchView(
            records=records,
            time=now,
            totals=Totals.model_validate(self.totals),
            per_second=round(sum(now - MINUTE < each.time <= now for each in self.recent) / MINUTE, 3),
            p50_ms=p50,
            p95_ms=p95,
            monitors=tuple(each.view() for each in ordered),
            comparisons=tuple(ShadowNow.model_validate(each) for each in self.comparisons.values()),
        )

    def _of(self, deployment: str) -> Watched:
        if deployment not in self.monitors:
            watched = Watched(deployment, self.section, self.first, KeptMonitor())
            if self.given and self.given.deployment == deployment:
                given = self.given
                prompts = [row["prompt"] for row in given.rows] if self.embed else []
                vectors = self.embed(prompts) if self.embed else None
                watched.begin_with([plain(row) for row in given.rows], given.labels, given.source, vectors)
            self.monitors[deployment] = watched
        return self.monitors[deployment]

    def _vectors(self, rows: Sequence[Row]) -> dict[str, Array]:
        """Return the embeddings of the prompts that are in the records."""
        texts = {row["request_id"]: row["prompt"] for row in rows if row["prompt"]} if self.embed else {}
        return dict(zip(texts, self.embed(list(texts.values())), strict=True)) if self.embed and texts else {}

    def _count(self, row: Row) -> None:
        totals = self.totals
        totals["requests"] += 1
        named = {"statuses": str(row["status"]), "errors": row["error"], "deployments": row["deployment"]}
        named |= {"routes": row["route"]} if row["status"] == 200 and not row["abstained"] else {}
        for table, name in named.items():
            if name:
                totals[table][name] = totals[table].get(name, 0) + 1
        totals["abstained"] += bool(row["abstained"])
        totals["cost"] += row["cost"] or 0.0
        self.recent.append(Recent(time=row["time"].timestamp(), status=row["status"], latency_ms=row["latency_ms"]))

    def _compare(self, row: Row) -> None:
        name = f"{row['challenger']} {row['reference']}"
        start = {"challenger": row["challenger"], "reference": row["reference"], "agreed": 0, "failed": 0}
        state = self.comparisons.setdefault(name, start)
        state |= {"word": row["word"], "pairs": row["pairs"]}
        state["agreed"] += bool(row["agrees"])
        state["failed"] += bool(row["challenger_fault"])


def signals(row: Row) -> Row:
    """Return the numbers of a served answer that are there without its text."""
    handed_on = row["route"] not in (STUDENT, "")
    return plain({"confidence": row["confidence"], "abstained": row["abstained"], "fell_back": handed_on})
