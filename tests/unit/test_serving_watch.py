"""`rayleigh watch`: rows are read once, monitors begin with a baseline, alarm with their rows, and go on after a restart."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from serving_world import serving, write_release
from test_serving_shadow_run import Shadow, says

from engine.contract.serving import Monitor as Section
from engine.errors import InputError, MissingArtifact, StorageError
from engine.records.watch import WatchKept, WatchView
from engine.rows import from_rows
from engine.serving import record_files
from engine.serving.follower import Follower
from engine.serving.monitor_files import MonitorNumbers
from engine.serving.record_files import SHADOW_FOLDER, RecordFiles
from engine.serving.recorder import Keeping
from engine.serving.schemas import REQUEST, SHADOW
from engine.serving.tail import Tail
from engine.serving.trickle import uniform
from engine.serving.watch import Given, Kept, Watch
from jobs.commands import sql
from jobs.commands import watch as watch_command
from jobs.commands.watch import Order, as_text, watch

ROOT = Path(__file__).parents[2]
D1, D2 = "1" * 64, "2" * 64


def row(number: int, **given: Any) -> dict[str, Any]:
    made = {**dict.fromkeys(REQUEST.names), "request_id": f"{number:032x}", "time": datetime.fromtimestamp(1e9 + number, UTC)}
    made |= {"deployment": D1, "unit": "order", "path": "task", "status": 200, "error": "", "route": "student", "reason": ""}
    made |= {"abstained": False, "confidence": 0.9, "finish_reason": "stop", "latency_ms": 40.0 + number % 7, "cost": 0.01}
    return made | {"answer": json.dumps({"product": "chair", "quantity": "3"})} | given


def compared(number: int, agrees: bool | None, **given: Any) -> dict[str, Any]:
    made = {**dict.fromkeys(SHADOW.names), "request_id": f"{number:032x}", "time": datetime.now(UTC), "champion": D1}
    made |= {"challenger": D1, "reference": "t" * 64, "agrees": agrees, "challenger_fault": "", "word": "keep watching"}
    return made | {"pairs": number, **given}


def stream(draws: Any, start: int, count: int, *, nulls: float = 0.1, confidence: float = 0.9) -> list[dict[str, Any]]:
    return [
        row(
            start + index,
            confidence=float(np.clip(draws.normal(confidence, 0.05), 0, 1)),
            answer=json.dumps({"product": None if draws.random() < nulls else "ab", "quantity": "3"}),  # as long as null
        )
        for index in range(count)
    ]


def write(folder: Path, rows: list[dict[str, Any]], size: int = 100) -> RecordFiles:
    files = RecordFiles(folder)
    for start in range(0, len(rows), size):
        files.append(from_rows(rows[start : start + size], REQUEST))
    return files


def ids(tail: Tail) -> list[int]:
    return [int(each, 16) for rows in tail.read() for each in rows["request_id"].to_pylist()]


def test_rows_are_read_once_across_the_end_of_an_hour_and_a_restart(tmp_path: Path, monkeypatch: Any) -> None:
    hour = ["2030-01-01T10"]
    monkeypatch.setattr(record_files, "_hour", lambda seconds: hour[0])
    files, tail = write(tmp_path, [row(1), row(2)], 1), Tail(tmp_path, REQUEST)
    assert ids(tail) == [1, 2] and ids(tail) == []
    files.append(from_rows([row(3)], REQUEST))
    hour[0] = "2030-01-01T11"
    files.close_hours()  # 10 is one file now, whose first rows were read as segments
    assert ids(tail) == [3]
    files.append(from_rows([row(4)], REQUEST))
    again = Tail(tmp_path, REQUEST, tail.consumed)
    assert ids(again) == [4] and ids(again) == [] and ids(tail) == [4]
    files.close()
    assert ids(again) == [] and ids(Tail(tmp_path, REQUEST)) == [1, 2, 3, 4]
    (tmp_path / "hours" / f"2030-01-01T10-{files.writer}.parquet").unlink()  # after its time
    again.forget()
    assert [name[:13] for name in again.consumed] == ["2030-01-01T11"]


def test_the_first_requests_are_the_baseline_and_a_change_alarms_with_its_rows() -> None:
    draws = np.random.default_rng(0)
    watched = Watch(Section(), first=300)
    assert watched.requests(stream(draws, 0, 299)) == [] and watched.view("r").monitors[0].source == ""
    assert watched.requests(stream(draws, 299, 500)) == []
    alarms = watched.requests(stream(draws, 1000, 400, nulls=0.5))
    assert [alarm.signal for alarm in alarms] == ["nulls.product"] and int(alarms[0].rows[-1], 16) >= 1000
    view = watched.view("r", now=1e9 + 1400)
    [monitor] = view.monitors
    assert monitor.source == "the first 300 requests" and monitor.alarms[0].signal == "nulls.product"
    assert "agreement" in monitor.untested and monitor.signals["confidence"].rows == 899
    assert view.totals.requests == 1199 and view.totals.routes == {"student": 1199} and view.p50_ms == 43.0
    assert "ALARM" in (text := as_text(view)) and "nulls.product" in text and "not tested" in text


def test_the_holdout_is_the_baseline_of_its_deployment_alone() -> None:
    draws = np.random.default_rng(1)
    rows = [{"confidence": float(draws.beta(8, 2)), "text": '{"product":"x"}', "agrees": bool(draws.random() < 0.9)}
            for _ in range(400)]  # fmt: skip
    watched = Watch(Section(), given=Given(D1, "the holdout of RUN", rows, list(range(400))))
    watched.requests([row(1), row(2, deployment=D2)])
    sources = {view.deployment: view.source for view in watched.view("r").monitors}
    assert sources == {D1: "the holdout of RUN", D2: ""}
    alarms = watched.shadows([compared(number, bool(draws.random() < 0.6)) for number in range(400)])
    assert [alarm.signal for alarm in alarms] == ["agreement"]
    [shadow] = watched.view("r").comparisons
    assert shadow.pairs == 399 and 200 < shadow.agreed < 280


def test_a_challengers_rows_say_how_often_the_champion_agrees() -> None:
    watched = Watch(Section(), first=50)
    watched.requests(stream(np.random.default_rng(2), 0, 50))
    watched.shadows([compared(1, False, challenger=D2, champion_agrees=True)])
    assert watched.view("r").monitors[0].rows == 0  # agreement has no baseline, so it is not tested
    rows = [{"confidence": 0.5, "text": "{}", "agrees": True}] * 40
    watched = Watch(Section(), given=Given(D1, "h", rows, list(range(40))))
    watched.shadows([compared(1, False, challenger=D2, champion_agrees=True), compared(2, None)])
    assert watched.view("r").monitors[0].signals["agreement"].mean == 1.0


def test_a_watch_goes_on_from_what_it_kept_as_if_it_had_not_stopped() -> None:
    rows = stream(np.random.default_rng(3), 0, 900)
    whole = Watch(Section(), first=200)
    whole.requests(rows)
    part = Watch(Section(), first=200)
    for start in range(0, 900, 130):  # stopped while it gathers, too
        part = Watch(Section(), first=200, kept=Kept(WatchKept.model_validate_json(part.kept({}, {}).model_dump_json())))
        part.requests(rows[start : start + 130])
    assert part.view("r", now=0) == whole.view("r", now=0)


def embed(texts: Any) -> np.ndarray:
    """Eight numbers of a text; prompts about refunds are elsewhere."""
    draws = np.random.default_rng(len(texts))
    return draws.normal(0, 0.25, (len(texts), 8)) + np.array([[2.0 * ("refund" in text)] + 7 * [0.0] for text in texts])


def test_prompts_of_another_kind_alarm_though_the_answers_are_alike(tmp_path: Path) -> None:
    usual = [row(number, prompt="a chair") for number in range(700)]
    other = [row(number, prompt="a refund") for number in range(700, 1500)]
    watched = Watch(Section(), first=200, kept=Kept(embed=embed))
    assert watched.requests(usual) == []
    part = Kept(watched.kept({}, {}), watched.bases(), embed)
    alarms = Watch(Section(), first=200, kept=part).requests(other)
    assert [alarm.signal for alarm in alarms] == ["embedding"] and int(alarms[0].rows[-1], 16) >= 700
    blind = Watch(Section(), first=200)
    assert blind.requests([*usual, *other]) == [] and "embedding" in blind.view("r").monitors[0].untested


def test_prompts_of_a_holdout_in_clusters_are_split_by_them_after_a_restart_too() -> None:
    rows = [{"confidence": 0.9, "text": "{}", "prompt": "a chair"} for _ in range(240)]
    labels = [f"phrasing {number // 12}" for number in range(240)]
    first = Watch(Section(), given=Given(D1, "the holdout of RUN", rows, labels), kept=Kept(embed=embed))
    first.requests([row(number, prompt="a chair") for number in range(300)])
    state = WatchKept.model_validate_json(first.kept({}, {}).model_dump_json())
    again = Watch(Section(), kept=Kept(state, first.bases(), embed))
    one, other = first.monitors[D1].domain, again.monitors[D1].domain
    assert one is not None and other is not None and np.array_equal(one.train, other.train) and one.labels == other.labels
    assert again.view("r", now=0) == first.view("r", now=0)
    assert again.kept({}, {}) == first.kept({}, {})


def test_prompts_that_were_gathered_before_a_restart_belong_to_the_baseline() -> None:
    rows = [row(number, prompt="a chair") for number in range(300)]
    part = Watch(Section(), first=200, kept=Kept(embed=embed))
    part.requests(rows[:90])
    kept, bases = WatchKept.model_validate_json(part.kept({}, {}).model_dump_json()), part.bases()
    part.requests(rows[90:110])  # its prompts were written, and it was killed before the state was
    newer = part.bases()
    assert len(bases[D1]) == 90 and len(newer[D1]) == 110
    again = Watch(Section(), first=200, kept=Kept(kept, newer, embed))
    again.requests(rows[90:])
    assert len(again.bases()[D1]) == 200 and np.array_equal(again.bases()[D1][:90], bases[D1])
    assert "embedding" not in again.view("r").monitors[0].untested


def test_null_streams_alarm_in_at_most_delta() -> None:
    alarms = 0
    for seed in range(25):
        watched = Watch(Section(), first=150)
        alarms += bool(watched.requests(stream(np.random.default_rng(100 + seed), 0, 450)))
    assert alarms <= 3  # 1.25 expected at most


def once(folder: Path, order: Order = Order()) -> WatchView:  # noqa: B008 - immutable
    shown: list[WatchView] = []
    watch(str(folder), order, shown.append, once=True)
    return shown[0]


def test_the_command_reads_on_and_keeps_what_the_server_shows(tmp_path: Path) -> None:
    files = write(tmp_path, stream(np.random.default_rng(4), 0, 120))
    assert once(tmp_path, Order(first=50)).totals.requests == 120
    files.append(from_rows([row(200, status=429, error="queue_full", deployment=D1, route="")], REQUEST))
    view = once(tmp_path, Order(first=50))
    assert view.totals.requests == 121 and view.totals.errors == {"queue_full": 1} and view.totals.statuses["429"] == 1
    assert view.monitors[0].rows == 70  # none twice
    summary = WatchView.model_validate_json((tmp_path / "monitor" / "summary.json").read_text())
    assert summary.monitors == view.monitors
    (tmp_path / "monitor" / "state.json").write_text("{")
    with pytest.raises(StorageError, match="Remove it"):
        once(tmp_path)
    with pytest.raises(MissingArtifact, match="--records"):
        once(tmp_path / "nothing")


def write_labels(path: Path, ids: Any, right: bool = False) -> Path:
    path.write_text("\n".join(json.dumps({"request_id": each, "right": right}) for each in ids))
    return path


def test_labels_are_asked_for_in_the_drawn_order_of_both_kinds_in_turn(tmp_path: Path) -> None:
    folder, labels = tmp_path / "kept", write_labels(tmp_path / "labels.jsonl", [])
    write(folder, stream(np.random.default_rng(5), 0, 2000), 2000)
    shadow = RecordFiles(folder / SHADOW_FOLDER, schema=SHADOW)
    shadow.append(from_rows([compared(number, number % 10 > 0) for number in range(1000)], SHADOW))
    view = once(folder, Order(labels=str(labels)))
    assert view.accuracy is not None and view.accuracy.accuracy is None and len(view.to_label) == 20
    assert [each.disagrees for each in view.to_label] == [True, False] * 10
    assert all(each.disagrees == (int(each.request_id, 16) % 10 == 0 and int(each.request_id, 16) < 1000) for each in view.to_label)
    for kind in (True, False):
        places = [uniform("label", each.request_id) for each in view.to_label if each.disagrees == kind]
        assert places == sorted(places)  # so those labelled at any time are a random part of those drawn
    write_labels(labels, [each.request_id for each in view.to_label])
    again = once(folder, Order(labels=str(labels)))
    assert again.accuracy is not None and again.accuracy.labels == 20 and again.accuracy.accuracy is not None
    assert again.accuracy.waiting == view.accuracy.waiting - 20 and f"{again.accuracy.waiting} drawn have no" in as_text(again)
    assert not {each.request_id for each in again.to_label} & {each.request_id for each in view.to_label}
    write_labels(labels, [each.request_id for each in view.to_label if each.disagrees])
    half = once(folder, Order(labels=str(labels)))  # nothing is known of those without a disagreement
    assert half.accuracy is not None and half.accuracy.labels == 10 and half.accuracy.accuracy is None
    for text in ("{", '{"request_id": "a"}', '{"request_id": "a", "right": "yes"}', "[]"):
        labels.write_text(text)
        with pytest.raises(InputError, match=r"labels.jsonl:1: found .*expected"):
            once(folder, Order(labels=str(labels)))


def test_accuracy_is_that_of_the_deployment_that_answered_last(tmp_path: Path) -> None:
    folder, labels = tmp_path / "kept", tmp_path / "labels.jsonl"
    files = write(folder, [row(number) for number in range(1000)], 1000)
    files.append(from_rows([row(number, deployment=D2) for number in range(1000, 2500)], REQUEST))
    write_labels(labels, [f"{number:032x}" for number in range(1000)])
    view = once(folder, Order(labels=str(labels)))  # all labels are of the deployment before
    assert view.accuracy is not None
    assert (view.accuracy.deployment, view.accuracy.rows, view.accuracy.labels) == (D2, 1500, 0)
    assert view.to_label and all(int(each.request_id, 16) >= 1000 for each in view.to_label)


def test_a_watch_leaves_out_what_it_cannot_read_while_an_hour_is_put_together(tmp_path: Path, monkeypatch: Any) -> None:
    folder, labels, page = tmp_path / "kept", write_labels(tmp_path / "labels.jsonl", []), tmp_path / "out.html"
    files = write(folder, [row(number) for number in range(300)])
    opened, views = record_files.shards, list[WatchView]()

    def merged_after_listing(place: Path) -> list[Path]:
        found = opened(place)
        if place == folder and len(views) == 1:  # the second round alone
            files.append(from_rows([row(1000 + len(list(folder.glob("open/*/*/*.parquet"))))], REQUEST))
            found = [*opened(place), folder / "open" / "gone.parquet"]
        return found

    def show(view: WatchView) -> None:
        views.append(view)
        if len(views) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(sql, "shards", merged_after_listing)
    monkeypatch.setattr(watch_command, "EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        watch(str(folder), Order(labels=str(labels), page=str(page)), show, once=False)
    assert views[0].accuracy == views[1].accuracy != views[2].accuracy  # the second shows what was known


def test_a_server_shows_the_monitor_of_what_answers_and_the_rules_name_no_other_numbers(tmp_path: Path) -> None:
    release, kept = write_release(tmp_path / "release"), tmp_path / "kept"
    shadow = Shadow(tmp_path, says("x"), None)
    follower = Follower(lambda: None, lambda url, running: running)
    companions = [follower, shadow.run, MonitorNumbers(kept)]

    async def run() -> str:
        async with serving(release, keeping=Keeping(kept), companions=companions) as server:
            before = (await server.client.get("/metrics")).text
            assert "rayleigh_monitor" not in before
            for _ in range(40):
                assert (await server.chat()).status_code == 200
            await server.until(lambda: server.app.recorder.counts.written == 40)
            once(kept, Order(first=30))
            about = (await server.client.get("/readyz")).json()
            assert about["alarms"] == []
            return (await server.client.get("/metrics")).text

    metrics = asyncio.run(run())
    assert "rayleigh_monitor_observations_total 10.0" in metrics and "rayleigh_monitor_testing 1.0" in metrics
    known = set(re.findall(r"^(rayleigh_\w+)", metrics, re.MULTILINE))
    rules = [
        rule for group in yaml.safe_load((ROOT / "cluster/prometheus/rules.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    named = {name for rule in rules for name in re.findall(r"rayleigh_\w+", rule["expr"])}
    assert len(rules) >= 10 and named - known == set()
    assert len({rule["alert"] for rule in rules}) == len(rules) and all(rule["annotations"]["summary"] for rule in rules)
