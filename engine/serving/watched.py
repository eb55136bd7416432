"""The monitor of one deployment, with the gathering of its baseline before."""

from collections.abc import Mapping, Sequence

import numpy as np

from engine.checks import parse
from engine.contract.serving import Monitor as Section
from engine.records.monitor import Alarm
from engine.records.watch import KeptBaseline, KeptMonitor, MonitorView, SignalView
from engine.rows import Row
from engine.serving.domain import DomainTest
from engine.serving.monitor import EMBEDDING, Monitor, Observation, signals_of
from engine.stats.clusters import Clusters
from engine.stats.drift import Baseline
from engine.stats.intervals import Array

LEAST = 30  # values of a signal that make a baseline
LEAST_PROMPTS = 100  # embeddings that make one: half of them train classifiers
SHOWN = 200  # last rows of a signal whose mean is shown


class Watched:
    """Gathers a baseline, then tests."""

    def __init__(self, deployment: str, section: Section, first: int, kept: KeptMonitor, base: Array | None = None) -> None:
        """Go on from `kept`, and from `base`, the prompts' embeddings of the baseline, or of what was gathered of it.

        `first`: requests that become the baseline, unless `begin_with` gives one.
        """
        self.deployment, self.section, self.first = deployment, section, first
        self.longest, self.source, self.rows = kept.longest, kept.source, kept.rows
        self.gathered = {name: list(values) for name, values in kept.gathered.items()}
        self.lengths = list(kept.texts)
        self.baselines = {name: _baseline(each) for name, each in kept.baselines.items()}
        self.vectors = [] if self.source or base is None else [*base[: kept.vectors]]
        self.clusters = list(kept.clusters)
        self.base = base if self.source else None
        self.domain = _domain(self.base, self.clusters or None, section)
        self.monitor = Monitor(section, self.baselines, self.domain, kept.state) if self.source else None

    def begin_with(self, rows: Sequence[Row], labels: Sequence[object], source: str, vectors: Array | None = None) -> None:
        """Take the baseline from `rows`, whose clusters are `labels`, and begin to test. `vectors`: of all their prompts."""
        self.longest = max([1, *(len(row["text"]) for row in rows if isinstance(row.get("text"), str))])
        found: dict[str, tuple[list[float], list[object]]] = {}
        for row, label in zip(rows, labels, strict=True):
            fields = fields_of(row.get("text"))
            for name, value in signals_of(row, longest=self.longest, fields=fields).items():
                values, clusters = found.setdefault(name, ([], []))
                values.append(value)
                clusters.append(label)
        baselines = {name: Baseline.of(np.array(each), of) for name, (each, of) in found.items() if len(each) >= LEAST}
        self._begin(baselines, source, vectors, labels)

    def observe(self, row: str, known: Row, answer: str | None = None, vector: Array | None = None) -> list[Alarm]:
        """Read one request, or one comparison of it; return the alarms that it raises.

        `known`: keys of `signals_of`, or `agreement` alone for a comparison. `vector`: embedding of the prompt.
        """
        if self.monitor is None:
            self._gather(known, answer, vector)
            return []
        if "agreement" not in known:
            return self.monitor.observe(Observation(row, self._signals(known, answer, self.longest), vector))
        return self.monitor.observe(Observation(row, dict(known))) if "agreement" in self.baselines else []

    def _signals(self, known: Row, answer: str | None, longest: int) -> dict[str, float]:
        return signals_of({**known, "text": answer}, longest=longest, fields=fields_of(answer))

    def _gather(self, known: Row, answer: str | None, vector: Array | None) -> None:
        values = {"agreement": known["agreement"]} if "agreement" in known else self._signals(known, None, 1)
        values |= {f"nulls.{name}": float(value is None) for name, value in fields_of(answer).items()}
        for name, value in values.items():
            self.gathered.setdefault(name, []).append(value)
        self.lengths += [len(answer)] if answer is not None else []
        self.vectors += [vector] if vector is not None else []
        self.rows += "agreement" not in known
        if self.rows >= self.first:
            self.longest = max([1, *self.lengths])
            lengths = [min(1.0, length / (1.5 * self.longest)) for length in self.lengths]
            found = {**self.gathered, "length": lengths}
            baselines = {name: Baseline.of(np.array(each)) for name, each in found.items() if len(each) >= LEAST}
            self._begin(baselines, f"the first {self.rows} requests", np.array(self.vectors) if self.vectors else None, None)

    def _begin(self, baselines: Mapping[str, Baseline], source: str, base: Array | None, labels: Sequence[object] | None) -> None:
        self.baselines = {name: each for name, each in baselines.items() if name.split(".")[0] in self.section.signals}
        self.source, self.gathered, self.lengths, self.vectors = source, {}, [], []
        self.domain = _domain(base, labels, self.section)
        self.base = base if self.domain else None
        self.clusters = Clusters(labels).index.tolist() if self.domain and labels is not None else []
        self.monitor = Monitor(self.section, self.baselines, self.domain)

    def kept(self) -> KeptMonitor:
        """Return what another `Watched` goes on from."""
        if self.monitor is None:
            gathered = {name: tuple(values) for name, values in self.gathered.items()}
            return KeptMonitor(gathered=gathered, texts=tuple(self.lengths), rows=self.rows, vectors=len(self.vectors))
        state = self.monitor.state().model_copy(update={"deployment": self.deployment})
        kept = {name: _kept(each) for name, each in self.baselines.items()}
        about = {"longest": self.longest, "source": self.source, "rows": self.rows, "clusters": tuple(self.clusters)}
        return KeptMonitor(**about, baselines=kept, state=state)

    def embeddings(self) -> Array | None:
        """Return those of the prompts of the baseline, or of what was gathered of it, (prompts, dimensions); None without any."""
        return self.base if self.monitor else np.array(self.vectors) if self.vectors else None

    def view(self) -> MonitorView:
        """Return what the monitor says now."""
        limit = 1 / self.section.delta
        if self.monitor is None:
            return MonitorView(deployment=self.deployment, source="", gathered=self.rows, limit=limit)
        monitor = self.monitor
        tested = {name.split(".")[0] for name in self.baselines} | ({EMBEDDING} if self.domain else set())
        return MonitorView(
            deployment=self.deployment,
            source=self.source,
            rows=monitor.rows,
            e_value=_short(monitor.e_value),
            limit=limit,
            signals={
                name: SignalView(
                    mean=round(float(np.mean([value for _, value in list(test.recent)[-SHOWN:]])), 6) if test.recent else None,
                    baseline=round(self.baselines[name].mean, 6),
                    rows=test.shift.rows,
                    e_value=_short(monitor.weight * test.e_value),
                )
                for name, test in monitor.signals.items()
            },
            embedding_e_value=_short(monitor.weight * self.domain.e_value) if self.domain else None,
            untested=tuple(name for name in self.section.signals if name not in tested),
            alarms=tuple(monitor.alarms),
        )


def _domain(base: Array | None, labels: Sequence[object] | None, section: Section) -> DomainTest | None:
    """Return the test of prompts against `base`; None if that is too small, or not wanted."""
    if base is None or len(base) < LEAST_PROMPTS or EMBEDDING not in section.signals:
        return None
    return DomainTest(base, labels, keep=section.keep)


def plain(row: Row) -> Row:
    """Return `row` without the keys that it has no value for."""
    return {name: value for name, value in row.items() if value is not None}


def fields_of(answer: object) -> Row:
    """Return the fields of an answer that is a JSON object; none of any other."""
    value = parse(answer) if isinstance(answer, str) and answer else None
    return value if isinstance(value, dict) else {}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _kept(baseline: Baseline) -> KeptBaseline:
    arrays = {name: tuple(getattr(baseline, name).tolist()) for name in ("low", "high", "log_e")}
    return KeptBaseline(**arrays, mean=baseline.mean, variance=baseline.variance, rows=baseline.rows)


def _baseline(kept: KeptBaseline) -> Baseline:
    return Baseline(np.array(kept.low), np.array(kept.high), np.array(kept.log_e), kept.mean, kept.variance, kept.rows)
