"""The shipped server process with a real engine: the texts of the evaluation, a drain, a kill."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serve_world import ROOT, Process, mails, promote_tiny, wait_for

from jobs.commands.sql import Views

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return promote_tiny(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def expected(registry: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list]:
    [release], file = (registry / "releases").iterdir(), tmp_path_factory.mktemp("expected") / "answers.json"
    path = os.pathsep.join([str(ROOT), str(HERE)])
    words = [sys.executable, str(HERE / "serve_world.py"), str(release), str(file)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


def test_texts_are_those_of_the_evaluation_and_a_stop_and_a_kill_lose_nothing_else(
    registry: Path, expected: list[list], tmp_path: Path
) -> None:
    [release] = (registry / "releases").iterdir()
    alone = Path(shutil.copytree(release, tmp_path / "elsewhere"))  # the folder of the release alone
    kept = tmp_path / "records"
    server = Process(alone, "--records", str(kept), "--keys-env", "RAYLEIGH_KEYS", RAYLEIGH_KEYS="other,secret")
    try:
        server.wait_until_ready()
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda row: server.chat(row["messages"]), mails()))
        assert [status for status, _ in replies] == [200] * len(expected)
        found = [
            [body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"], *list(body["usage"].values())[:2]]
            for _, body in replies
        ]
        assert found == expected
        with ThreadPoolExecutor(8) as pool:  # as they grow: the same texts
            pieces = list(pool.map(lambda row: server.stream(row["messages"]), mails()))
        assert ["".join(each) for each in pieces] == [text for text, *_ in expected] and min(map(len, pieces)) > 1

        with ThreadPoolExecutor(16) as pool:  # more than the engine computes at once
            sent = [pool.submit(server.task, row["text"]) for row in mails() + mails()[:3]]
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            ended = [future.exception() or future.result()[0] for future in sent]
        assert all(each == 200 or isinstance(each, OSError) for each in ended) and 200 in ended
        assert server.process.wait(60) == 0
        rows = Views(str(kept)).rows("select status, count(*) as n from requests group by 1")
        assert rows == [{"status": 200, "n": 2 * len(expected) + ended.count(200)}]  # what was taken was answered and recorded
    finally:
        server.rest()


def test_a_kill_loses_at_most_the_last_second_and_a_changed_release_is_refused(registry: Path, tmp_path: Path) -> None:
    kept = tmp_path / "records"
    server = Process(registry, "--records", str(kept))
    try:
        server.wait_until_ready()
        assert [server.task(row["text"])[0] for row in mails()[:4]] == [200] * 4
        time.sleep(1.0)
        server.task(mails()[4]["text"])
        server.process.kill()
        server.process.wait()
        [row] = Views(str(kept)).rows("select count(*) as n, min(deployment) = max(deployment) as same from requests")
        assert row["n"] in (4, 5) and row["same"]
    finally:
        server.rest()

    copy = Path(shutil.copytree(next((registry / "releases").iterdir()), tmp_path / "changed"))
    config = copy / "model" / "generation_config.json"
    config.write_text(config.read_text() + " ")
    changed = Process(copy)
    assert changed.process.wait(60) == 1
    assert "StorageError" in (said := changed.rest()) and "generation_config.json: found sha256" in said


def test_replicas_of_ray_serve_answer_alike_and_follow_the_registry(expected: list[list], tmp_path: Path) -> None:
    pytest.importorskip("grpc_reflection", reason="Ray Serve is an extra: uv pip install 'rayleigh[serve]'")
    profile = tmp_path / "ray.yaml"
    profile.write_text((HERE / "serve.yaml").read_text().replace("address: none", "address: local, num_cpus: 4"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = tmp_path / "records"
    server = Process(promote_tiny(tmp_path), "--port", str(port), "--records", str(kept), profile=profile, local=False)
    try:
        assert server.get("/readyz")[0] == 200  # it listens once the engine is loaded
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda row: server.chat(row["messages"]), mails()))
        assert [body["choices"][0]["message"]["content"] for _, body in replies] == [text for text, *_ in expected]
        old = replies[0][1]["rayleigh"]["deployment"]
        promote_tiny(tmp_path, "later")
        new = wait_for(server, None, other_than=old)
        status, body = server.task(mails()[0]["text"])
        assert (status, body["deployment"]) == (200, new)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
        assert Views(str(kept)).rows("select count(*) as n from requests") == [{"n": len(expected) + 1}]
    finally:
        server.rest()
