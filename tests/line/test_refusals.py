"""A server that refuses everything, through the command: a clear stop, nothing on record, and once mended it answers all."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner, Result

from engine.storage.folder import Folder
from jobs.cli import app
from tests.line.data_world import CONTRACT, mails, write_jsonl
from tests.refusing_server import ANSWER, EVERY_REQUEST, Server

ROWS = 12


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running
        running.shutdown()


def run(folder: Path) -> Result:
    """Run the command in this process, which holds Ray already."""
    words = ["run", folder / "contract.yaml", folder / "run", "--profile", folder / "profile.yaml", "--until", "candidates"]
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_a_server_that_refuses_everything_stops_the_command_and_once_mended_answers_all(
    tmp_path: Path, server: Server, cluster: None
) -> None:
    write_jsonl(tmp_path / "seeds.jsonl", [{"input": text} for text in mails(ROWS)])
    write_jsonl(tmp_path / "holdout.jsonl", [{"input": "Please send 3 lamps.", "reference": "{}"}])
    model = {"type": "endpoint", "url": server.url, "path": "m", "retries": 0}
    student = {"name": "s", "init": {"prune": {"source": "smollm2-135m-instruct", "layers": [0]}}}
    contract = CONTRACT | {"teachers": {"mode": "direct", "models": [{"name": "t", "model": model}]}, "students": [student]}
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(contract))
    profile = {"name": "test", "teacher": {"actors": 1, "batch": 4}, "cpu": {"actors": 1, "cpus": 0.5}}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))

    for case in ("400", "200 error"):
        server.status, server.body = EVERY_REQUEST[case]
        result = run(tmp_path)
        assert result.exit_code == 1, result.output
        assert f"ModelError: {server.url}, model 'm': the server refuses every request. It says: " in result.output
        assert server.body["error"]["message"] in result.output and "Traceback" not in result.output
        assert not [name for name in Folder(str(tmp_path / "run" / "ledger")).files(deep=True) if name.endswith(".parquet")]

    server.status, server.body = 200, ANSWER
    assert run(tmp_path).exit_code == 0
    answers = pq.read_table(tmp_path / "run" / "candidates" / "candidates")
    assert answers["finish_reason"].to_pylist() == ["stop"] * ROWS
