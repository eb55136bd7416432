"""Jobs on a real cluster with a dashboard: exit codes, what is sent, attempts, a graceful stop, counters that nodes export."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InputError
from jobs.commands import submit
from jobs.commands.submit import Submission
from tests.line import dashboard as ports
from tests.line.dashboard import until
from tests.network import Network

COUNTS = """
import time, urllib.request
import ray
from engine.distributed import metrics

@ray.remote
def written():
    metrics.count("candidates", {"accepted": 5}, 40)
    time.sleep(20)  # counters leave a worker every ten seconds

ray.init()
task = written.remote()
port = ray.nodes()[0]["MetricsExportPort"]
found = set()
for _ in range(60):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    found |= {line.partition("{")[0] for line in text.splitlines()}
    if {"ray_rayleigh_rows_total", "ray_rayleigh_output_tokens_total"} <= found:
        break
    time.sleep(1)
print(*sorted(found))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The dashboard of a cluster with ports and a folder of its own, so that jobs meet no other cluster of this machine."""
    variables = {**os.environ, **ports.environment(), "RAY_USAGE_STATS_ENABLED": "0"}
    dashboard, agent = ports.free_port(), ports.free_port()
    options = {
        "port": 0,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "num-cpus": 2,
        "include-dashboard": "true",
    }
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        options |= {"object-store-memory": 100 * 2**20, "temp-dir": folder}
        words = [
            str(Path(sys.executable).parent / "ray"),
            "start",
            "--head",
            "--block",
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        with subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            yield ports.wait_for(dashboard, agent)
            process.terminate()  # with --block, Ray ends what it started


def job(folder: Path, name: str, entrypoint: str) -> Submission:
    return Submission(f"rayleigh-{name}", entrypoint, str(folder), ())


def run(address: str, submission: Submission) -> tuple[str, int, str]:
    """Submit and follow a job; return its id, exit code and output."""
    said, written = [], []
    client = submit.connect(address)
    name = submit.submit(client, submission, said.append)
    return name, submit.follow(client, name, said.append, written.append), "".join(written)


def test_code_of_the_run_and_attempts_and_files(cluster: str, tmp_path: Path):
    (tmp_path / ".rayignore").write_text("ignored.txt\n")
    (tmp_path / "ignored.txt").write_text("x")
    (tmp_path / "sent.txt").write_text("x")
    shown = job(tmp_path, "files", "ls -a")
    name, code, output = run(cluster, shown)
    assert (code, "sent.txt" in output, "ignored.txt" in output) == (0, True, False)
    assert run(cluster, shown)[:2] == (name, 0)  # attached to what has succeeded: nothing runs twice

    failing = job(tmp_path, "failing", "python -c 'print(123); raise SystemExit(7)'")
    name, code, output = run(cluster, failing)
    assert (code, "123" in output) == (7, True)
    assert run(cluster, failing)[0] == f"{name}-2"


def test_a_refused_contract_ends_the_job_with_the_code_of_rayleigh(cluster: str, tmp_path: Path):
    (tmp_path / "broken.yaml").write_text("name: x\nteacher: 1\n")
    _, code, output = run(cluster, job(tmp_path, "broken", f"rayleigh run broken.yaml {tmp_path}/run --profile cluster"))
    assert code == 1 and "broken.yaml" in output and "problem(s)" in output


def test_stop_lets_the_job_finish_what_it_does(cluster: str, tmp_path: Path):
    program = tmp_path / "waits.py"
    program.write_text(
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n    time.sleep(5)\n    pathlib.Path(sys.argv[1]).write_text('finished')\n    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    mark = tmp_path.parent / "mark"
    client = submit.connect(cluster)
    waiting = job(tmp_path, "waiting", f"exec python waits.py {mark}")
    name = submit.submit(client, waiting, lambda line: None)
    until(lambda: "ready" in client.get_job_logs(name))  # pyright: ignore
    submit.stop(client, waiting, lambda line: None)
    until(mark.is_file)  # later than the 3 s after which Ray would kill it by default
    with pytest.raises(InputError, match="none is running"):
        until(lambda: str(client.get_job_info(name).status.value) == "STOPPED")
        submit.stop(client, waiting, lambda line: None)


def test_a_torn_connection_is_opened_again(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submit, "RECONNECT_SECONDS", 1.0)
    network = Network(int(cluster.rpartition(":")[2]))
    client, written, lines = submit.connect(f"http://127.0.0.1:{network.port}"), [], []
    name = submit.submit(client, job(tmp_path, "torn", "echo ready; sleep 4; echo done; exit 5"), lines.append)

    def write(text: str) -> None:
        written.append(text)
        if "ready" in text:
            network.set("busy", failures=1)  # what is open is reset

    assert submit.follow(client, name, lines.append, write) == 5
    output = "".join(written)
    assert output.count("ready\n") == 1 and output.endswith("done\n") and "connection is lost" in lines[-1]


def test_doctor_holds_the_pools_against_the_running_cluster(cluster: str, tmp_path: Path):
    (tmp_path / "p.yaml").write_text("name: p\nray: {address: auto}\nteacher: {cpus: 64}\nevaluator: {cpus: 2}\n")
    _, code, output = run(cluster, job(tmp_path, "doctor", "rayleigh doctor --profile p.yaml"))
    assert code == 1 and "1 nodes alive" in output
    assert "place candidates: one teacher (teacher): no node has 64 CPU; the most is 2" in output
    assert "fits, 1 of 1" in output


def test_counters_are_exported_by_the_node(cluster: str, tmp_path: Path):
    (tmp_path / "counts.py").write_text(COUNTS)
    _, code, output = run(cluster, job(tmp_path, "counts", "python counts.py"))
    assert code == 0 and {"ray_rayleigh_rows_total", "ray_rayleigh_output_tokens_total"} <= set(output.split())
    assert {"ray_actors", "ray_node_disk_free", "ray_object_store_memory", "ray_resources"} <= set(output.split())
