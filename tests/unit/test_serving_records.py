"""Rows of requests: what is kept, what is not, and what a kill leaves."""

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving_world import ANSWER, Standin, serving, write_release

from engine.errors import InputError, StorageError
from engine.inference.engine import Completion
from engine.rows import from_rows
from engine.serving import record_files
from engine.serving import recorder as recorder_module
from engine.serving.body import Limits
from engine.serving.record_files import RecordFiles, is_records, shards
from engine.serving.recorder import Keeping, Recorder
from engine.serving.schemas import REQUEST
from jobs.commands.sql import RecordsMoved, Views

ROW = dict.fromkeys(REQUEST.names) | {"unit": "order", "status": 200, "time": datetime.now(UTC), "answer": ANSWER}


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return pa.concat_tables([REQUEST.empty_table(), *(pq.read_table(path) for path in shards(folder))]).to_pylist()


def row(number: int, **columns: Any) -> dict[str, Any]:
    return ROW | {"request_id": f"{number:032x}", **columns}


def table(*numbers: int) -> pa.Table:
    return from_rows([row(number) for number in numbers], REQUEST)


def ids(folder: Path) -> list[int]:
    return sorted(int(each["request_id"], 16) for each in rows_in(folder))


def test_each_request_is_a_row_whatever_became_of_it(tmp_path: Path) -> None:
    release, kept = write_release(tmp_path / "release"), tmp_path / "kept"

    async def run() -> None:
        given: dict[str, Any] = {"keeping": Keeping(kept), "at_once": 1, "limits": Limits(deadline=5, queue=0)}
        async with serving(release, **given) as server:
            await server.task({"text": "three chairs to ann@example.org"})
            await server.chat(temperature=1)
            server.engine.gate.clear()
            await server.chat()
            server.engine.gate.set()

    asyncio.run(run())
    good, refused, late = rows_in(kept)
    about = {"status": 200, "path": "task", "unit": "order", "route": "student", "finish_reason": "stop", "error": ""}
    assert {key: good[key] for key in about} == about
    assert good["answer"] == ANSWER and good["confidence"] == pytest.approx(0.9048, abs=1e-3)
    assert (good["tokens_in"], good["tokens_out"]) == (7, 5) and 0 <= good["queue_ms"] <= good["latency_ms"]
    assert good["cost"] == pytest.approx(good["engine_ms"] / 3.6e6 * 0.10, rel=1e-3) and len(good["deployment"]) == 64
    assert good["prompt"] is None and len(good["prompt_hash"]) == 32  # without --keep-text a hash alone
    about = {"status": 400, "error": "unsupported_parameter", "prompt_hash": None, "answer": None}
    assert {key: refused[key] for key in about} == about
    about = {"status": 504, "error": "deadline_exceeded", "queue_ms": None}
    assert {key: late[key] for key in about} == about
    assert abs(good["time"].timestamp() - time.time()) < 60


def test_texts_and_answers_are_redacted(tmp_path: Path) -> None:
    release, kept = write_release(tmp_path / "release"), tmp_path / "kept"

    async def run() -> None:
        async with serving(release, Standin("ann@example.org, 3"), keeping=Keeping(kept, text=True)) as server:
            await server.task({"text": "three chairs to ann@example.org, from 192.168.1.7"})

    asyncio.run(run())
    [found] = rows_in(kept)
    assert found["prompt"] == "three chairs to <EMAIL>, from <IP>"  # all kinds, as the records name none
    assert found["answer"] == "<EMAIL>, 3"


def test_rows_beyond_the_queue_are_dropped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(Keeping(tmp_path, rows=3))
    for number in range(5):
        recorder.put(row(number))
    assert (recorder.counts.waiting, recorder.counts.dropped) == (3, 2) and "rows were dropped" in caplog.text
    recorder.start()
    recorder.close()
    assert ids(tmp_path) == [0, 1, 2] and recorder.counts.written == 3


def test_long_texts_fill_the_queue_before_the_memory(tmp_path: Path) -> None:
    recorder = Recorder(Keeping(tmp_path))
    for number in range(6):
        recorder.put(row(number, answer="x" * 9_000_000))
    assert (recorder.counts.waiting, recorder.counts.dropped) == (5, 1)


def test_a_sample_is_the_same_share_of_requests(tmp_path: Path) -> None:
    recorder = Recorder(Keeping(tmp_path, sample=0.25))
    for number in range(1000):
        recorder.put(ROW | {"request_id": f"{(number * 2654435761) % 2**32:08x}".ljust(32, "0")})
    assert recorder.counts.waiting == pytest.approx(250, abs=25) and recorder.counts.dropped == 0


def test_rows_wait_while_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, full = Recorder(Keeping(tmp_path)), [True]
    append = recorder.files.append

    def refuse(rows: pa.Table) -> None:
        if full:
            raise StorageError("no space left on device")
        append(rows)

    monkeypatch.setattr(recorder.files, "append", refuse)
    recorder.put(row(1))
    recorder.start()
    until = time.monotonic() + 10
    while not recorder.counts.faults and time.monotonic() < until:
        time.sleep(0.01)
    assert recorder.counts.waiting == 1
    full.clear()
    recorder.close()
    assert ids(tmp_path) == [1]


def test_a_torn_file_is_never_taken_for_whole(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path)
    files.append(table(1))
    place = tmp_path / "open" / files.writer / files.hour
    (place / "00000002.parquet.1234.part").write_bytes(b"PAR1 half of a segment")
    (tmp_path / "hours" / f"{files.hour}-{files.writer}.1234.part").write_bytes(b"PAR1 half of an hour")
    assert ids(tmp_path) == [1]
    files.close()
    assert ids(tmp_path) == [1] and len(list((tmp_path / "hours").glob("*.parquet"))) == 1


def test_hours_are_put_together_once_they_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = ["2030-01-01T10"]
    monkeypatch.setattr(record_files, "_hour", lambda seconds: hour[0])
    files = RecordFiles(tmp_path)
    for number in (1, 2):
        files.append(table(number))
    files.close_hours()
    assert len(shards(tmp_path)) == 2  # the hour goes on
    hour[0] = "2030-01-01T11"
    files.append(table(3))
    files.close_hours()
    assert [path.parent.name for path in shards(tmp_path)] == ["hours", "2030-01-01T11"] and ids(tmp_path) == [1, 2, 3]
    hour[0] = "2030-01-01T10"  # the clock is set back: the closed hour is not opened again
    files.append(table(4))
    assert ids(tmp_path) == [1, 2, 3, 4]
    files.close()
    assert ids(tmp_path) == [1, 2, 3, 4]


def test_segments_that_a_kill_left_beside_their_hour_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RecordFiles(tmp_path)
    files.append(table(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(record_files.shutil, "rmtree", lambda *given, **options: None)  # killed between writing and removing
        files.close()
    assert len(list(tmp_path.glob("open/*/*/*.parquet"))) == 1 and ids(tmp_path) == [1, 2]
    other = RecordFiles(tmp_path)
    other.close_hours()
    assert ids(tmp_path) == [1, 2] and not list(tmp_path.glob("open/*/*/*.parquet"))


def _write_until_killed(folder: Path, ready: Any) -> None:
    recorder = Recorder(Keeping(folder))
    recorder.start()
    for number in range(10**6):
        recorder.put(row(number))
        ready.value = number + 1
        time.sleep(0.002)


def test_a_kill_loses_less_than_a_second_and_the_next_writer_takes_the_rest_over(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    count = spawn.Value("i", 0)
    process = spawn.Process(target=_write_until_killed, args=(tmp_path, count))
    process.start()
    second_ago: list[tuple[float, int]] = []
    while not second_ago or second_ago[-1][1] < 1000:
        second_ago.append((time.monotonic(), count.value))
        time.sleep(0.01)
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic()
    process.join()
    durable = max(number for at, number in second_ago if at < killed - 1.0)
    found = ids(tmp_path)
    assert found == list(range(len(found))) and len(found) >= durable > 0

    living = RecordFiles(tmp_path)
    living.append(table(10**7))
    other = RecordFiles(tmp_path)
    other.close_hours()  # takes over what the killed one left, and leaves the living one alone
    assert {path.parts[-3] for path in tmp_path.glob("open/*/*/*.parquet")} == {living.writer}
    assert ids(tmp_path) == [*found, 10**7]


def test_old_hours_are_removed(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path, days=1)
    files.append(table(1))
    files.close()
    [path] = (tmp_path / "hours").glob("*.parquet")
    os.utime(path, (time.time() - 2 * 86_400,) * 2)
    other = RecordFiles(tmp_path, days=1)
    other.append(table(2))
    other.close_hours()
    assert ids(tmp_path) == [2]


def test_rows_are_written_while_an_hour_is_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, begun, done = Recorder(Keeping(tmp_path)), threading.Event(), threading.Event()
    monkeypatch.setattr(recorder.files, "close_hours", lambda: (begun.set(), done.wait(30)))
    recorder.start()
    assert begun.wait(30)
    for number in range(3):
        recorder.put(row(number))
    until = time.monotonic() + 20
    while recorder.counts.written < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert ids(tmp_path) == [0, 1, 2]
    done.set()
    recorder.close()
    assert ids(tmp_path) == [0, 1, 2]


def test_no_row_is_written_into_an_hour_that_was_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour, writes, go_on = ["2030-01-01T10"], threading.Event(), threading.Event()
    monkeypatch.setattr(record_files, "_hour", lambda seconds: hour[0])
    files, write = RecordFiles(tmp_path), record_files.Folder.write
    files.append(table(1))

    def slow(*given: Any, **options: Any) -> None:
        writes.set()
        assert go_on.wait(30)
        write(*given, **options)

    monkeypatch.setattr(record_files.Folder, "write", slow)
    appends, closes = (threading.Thread(target=act) for act in (lambda: files.append(table(2)), files.close_hours))
    appends.start()
    assert writes.wait(30)
    hour[0] = "2030-01-01T11"  # the hour ends while a row of it is written
    closes.start()
    closes.join(0.5)
    go_on.set()
    appends.join()
    closes.join()
    assert ids(tmp_path) == [1, 2]


def test_old_hours_are_removed_from_an_idle_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RecordFiles(tmp_path)
    files.append(table(1))
    files.close()
    [path] = (tmp_path / "hours").glob("*.parquet")
    monkeypatch.setattr(recorder_module, "TIDY_SECONDS", 0.01)
    recorder = Recorder(Keeping(tmp_path, days=1))
    recorder.start()
    recorder.put(row(2))
    until = time.monotonic() + 20
    while not recorder.counts.written and time.monotonic() < until:
        time.sleep(0.01)
    os.utime(path, (time.time() - 2 * 86_400,) * 2)  # after the last row
    while path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    recorder.close()
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        Recorder(Keeping(tmp_path / "file"))


def test_sql_reads_the_records(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path)
    files.append(table(1, 2))
    assert is_records(tmp_path)
    assert Views(str(tmp_path)).rows("select count(*) as n, max(status) as worst from requests") == [{"n": 2, "worst": 200}]
    files.close()
    assert Views(str(tmp_path)).rows("select count(*) as n from requests") == [{"n": 2}]


def test_an_hour_that_is_put_together_while_it_is_listed_hides_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RecordFiles(tmp_path)
    files.append(table(1, 2))
    hours_of, path_glob = tmp_path / "hours", Path.glob

    def merges_after(place: Path, pattern: str) -> Any:
        found = list(path_glob(place, pattern))
        if place == hours_of:
            files.close()
        return found

    with monkeypatch.context() as patch:  # hours were listed before they were put together: the segments must be known by then
        patch.setattr(Path, "glob", merges_after)
        listed = shards(tmp_path)
    assert len(listed) == 1 and ids(tmp_path) == [1, 2]


def test_sql_reads_once_again_what_was_put_together_after_it_was_listed(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path)
    files.append(table(1))
    files.append(table(2))
    views = Views(str(tmp_path))
    files.close()
    assert views.rows("select count(*) as n from requests") == [{"n": 2}]
    [path] = (tmp_path / "hours").glob("*.parquet")
    with pytest.raises(InputError, match="no_such"):
        views.rows("select no_such from requests")
    path.unlink()  # after its time
    assert views.rows("select count(*) as n from requests") == [{"n": 0}]


def test_sql_says_what_happened_if_files_go_while_the_result_is_read(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path)
    files.append(table(1))
    views = Views(str(tmp_path))
    real: Any = views.connection

    def batches() -> Any:
        yield table(1).to_batches()[0]
        files.close()
        raise OSError("a file of the scan is gone")

    def sql(query: str, params: Any) -> Any:
        return SimpleNamespace(to_arrow_reader=lambda: pa.RecordBatchReader.from_batches(REQUEST, batches()))

    views.connection = cast(Any, SimpleNamespace(extract_statements=real.extract_statements, sql=sql))
    reader = views.query("select * from requests")
    assert reader.read_next_batch().num_rows == 1
    with pytest.raises(RecordsMoved, match=r"put together .*Ask again"):
        reader.read_all()


def test_a_completion_without_probability_has_no_confidence(tmp_path: Path) -> None:
    release, kept, engine = write_release(tmp_path / "release"), tmp_path / "kept", Standin()
    engine.completion = Completion("", "stop", 7, 5, None)

    async def run() -> None:
        async with serving(release, engine, keeping=Keeping(kept)) as server:
            assert (await server.task({"text": "x"})).json()["confidence"] is None

    asyncio.run(run())
    assert rows_in(kept)[0]["confidence"] is None
