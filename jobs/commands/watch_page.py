"""`rayleigh watch RECORDS --page FILE`: the view as one HTML file, with the rates over time and the rows of alarms."""

import os
from collections.abc import Sequence
from pathlib import Path

from engine.contract.serving import Monitor as Section
from engine.errors import InputError
from engine.records.watch import AlarmRow, WatchHistory, WatchView
from engine.report.monitor_page import monitor_page
from engine.rows import Row
from engine.serving.rates import rates
from jobs.commands.sql import Views

REQUESTS = 20_000  # last ones of the deployment, from which the lines are drawn
SHOWN_ROWS = 20  # last ones of an alarm
COLUMNS = "request_id, epoch(time) as time, status, confidence, abstained, route, answer"
LAST = f"select {COLUMNS} from requests where deployment = ? order by requests.time desc, request_id limit {REQUESTS}"
COMPARED = f"""
    select epoch(time) as time, case when challenger = champion then agrees else champion_agrees end as agrees
    from shadows where champion = ? order by shadows.time desc, request_id limit {REQUESTS}
"""
NAMED = f"select {COLUMNS} from requests where list_contains(?, request_id) order by requests.time desc limit {SHOWN_ROWS}"


def write_page(file: str, folder: Path, view: WatchView, section: Section) -> None:
    """Write the page of `view`, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    text, new = monitor_page(view, history(folder, view, section)), Path(f"{file}.new")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, file)
    except OSError as error:
        raise InputError(f"--page {file}: cannot be written: {error}. Name a file in a folder that exists.") from None


def history(folder: Path, view: WatchView, section: Section) -> WatchHistory:
    """Return what the records say over time of the deployment that answered last."""
    if not view.monitors:
        return WatchHistory(delta=section.delta)
    monitor, views = view.monitors[0], Views(str(folder))
    requests, compared = (views.rows(query, [monitor.deployment])[::-1] for query in (LAST, COMPARED))
    shown = {alarm.signal: _alarm_rows(views, alarm.rows) for alarm in monitor.alarms}
    return WatchHistory(
        deployment=monitor.deployment, delta=section.delta, requests=len(requests),
        lines=rates(requests, compared, section.delta), alarm_rows=shown,
    )  # fmt: skip


def _alarm_rows(views: Views, ids: Sequence[str]) -> tuple[AlarmRow, ...]:
    rows: list[Row] = views.rows(NAMED, [list(ids)])
    names = ("request_id", "time", "confidence", "route", "abstained", "answer")
    return tuple(AlarmRow(**{name: row[name] for name in names}) for row in rows)
