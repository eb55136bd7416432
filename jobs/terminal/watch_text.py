"""The view of `rayleigh watch` as text."""

import time
from collections.abc import Iterator, Mapping

from engine.records.monitor import Alarm
from engine.records.watch import MonitorView, WatchView
from jobs.terminal.console import columns, interval

SHORT = 12  # characters of a fingerprint or an id
IDS = 5  # rows of an alarm


def as_text(view: WatchView) -> str:
    """Return the view for a person."""
    return "\n".join(_lines(view))


def _lines(view: WatchView) -> Iterator[str]:
    totals = view.totals
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(view.time))
    yield f"{view.records}   {at} UTC"
    latency = "" if view.p50_ms is None else f"; latency {view.p50_ms:.0f} ms median, {view.p95_ms:.0f} ms p95"
    yield f"requests {totals.requests}, {view.per_second:.2f}/s in the last minute{latency}; cost {totals.cost:.4g}"
    yield f"  status {_shares(totals.statuses)}"
    yield f"  route  {_shares(totals.routes)}; abstained {totals.abstained}"
    if totals.errors:
        yield f"  errors {_shares(totals.errors)}"
    yield ""
    for shadow in view.comparisons:
        who = f"{shadow.challenger[:SHORT]} against {shadow.reference[:SHORT]}"
        yield f"shadow {who}: {shadow.word}; {shadow.agreed} of {shadow.pairs} agree, {shadow.failed} failed"
    if not view.comparisons:
        yield "shadow none"
    for monitor in view.monitors[:2]:
        yield from ("", *_monitor(monitor))
    if view.accuracy is not None:
        found = view.accuracy
        of = f"{found.rows} requests to {found.deployment[:SHORT]}"
        yield f"\naccuracy {interval(found.accuracy)} from {found.labels} labels of {of}; {found.waiting} drawn have no label yet"
        if found.accuracy is None:
            yield "  no interval without two labels, and one of each kind that was drawn: disagreements with the teacher, others"
    if view.to_label:
        yield f"to label {', '.join(each.request_id + (' (disagrees)' if each.disagrees else '') for each in view.to_label[:IDS])}"


def _monitor(view: MonitorView) -> Iterator[str]:
    if not view.source:
        yield f"monitor {view.deployment[:SHORT]}: gathers its baseline, {view.gathered} requests so far"
        return
    yield (
        f"monitor {view.deployment[:SHORT]}: {view.rows} observations against {view.source}; "
        f"evidence of a change {view.e_value:.3g}, an alarm from {view.limit:g} on"
    )
    rows = [[name, each.rows, each.mean, each.baseline, f"{each.e_value:.3g}"] for name, each in view.signals.items()]
    rows += [["embedding", None, None, None, f"{view.embedding_e_value:.3g}"]] if view.embedding_e_value is not None else []
    yield columns(rows, head=["signal", "rows", "now", "baseline", "evidence"])
    if view.untested:
        yield f"not tested, for want of a baseline: {', '.join(view.untested)}"
    yield from (_alarm(alarm) for alarm in view.alarms)
    if not view.alarms:
        yield "no alarm"


def _alarm(alarm: Alarm) -> str:
    ids = ", ".join(row[:SHORT] for row in alarm.rows[:IDS])
    more = f" and {len(alarm.rows) - IDS} more" if len(alarm.rows) > IDS else ""
    return f"ALARM at {alarm.at}: {alarm.sentence}\n  since {ids}{more}"


def _shares(counts: Mapping[str, int]) -> str:
    total = max(1, sum(counts.values()))
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {count} ({count / total:.1%})" for name, count in ordered) or "none"
