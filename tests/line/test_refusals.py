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


def write_contract(folder: Path, server: Server) -> None:
    """Write a contract whose teacher is `server`, its data and a profile."""
    write_jsonl(folder / "seeds.jsonl", [{"input": text} for text in mails(ROWS)])
    write_jsonl(folder / "holdout.jsonl", [{"input": "Please send 3 lamps.", "reference": "{}"}])
    model = {"type": "endpoint", "url": server.url, "path": "m", "retries": 0}
    student = {"name": "s", "init": {"prune": {"source": "smollm2-135m-instruct", "layers": [0]}}}
    contract = CONTRACT | {"teachers": {"mode": "direct", "models": [{"name": "t", "model": model}]}, "students": [student]}
    (folder / "contract.yaml").write_text(yaml.safe_dump(contract))
    profile = {"name": "test", "teacher": {"actors": 1, "batch": 4}, "cpu": {"actors": 1, "cpus": 0.5}}
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))


def run(folder: Path, name: str = "run") -> Result:
    """Run the command in this process, which holds Ray already."""
    words = ["run", folder / "contract.yaml", folder / name, "--profile", folder / "profile.yaml", "--until", "candidates"]
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_a_server_that_refuses_everything_stops_the_command_and_once_mended_answers_all(
    tmp_path: Path, server: Server, cluster: None
) -> None:
    write_contract(tmp_path, server)
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


def test_reasoning_of_a_server_is_kept_and_a_run_without_any_answer_ends_with_its_reasons(
    tmp_path: Path, server: Server, cluster: None
) -> None:
    write_contract(tmp_path, server)
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "yes"}]
    server.body = {"choices": [{"message": {"content": parts}, "finish_reason": None}], "usage": {"completion_tokens": -7}}
    assert run(tmp_path, "parts").exit_code == 0
    table = pq.read_table(tmp_path / "parts" / "candidates" / "candidates")
    answers = zip(*(table[name].to_pylist() for name in ("answer", "reasoning", "finish_reason", "tokens_out")), strict=True)
    assert set(answers) == {("yes", "Hm.", "stop", 2)}

    server.body = {"choices": [{"message": {"content": None, "reasoning_content": "Hm."}, "finish_reason": "stop"}]}
    result = run(tmp_path, "thoughts")
    assert result.exit_code == 3 and "run the same command again" not in result.output
    assert "12 of 12 (100 %) failure: finish_reason_error: stopped while it was thinking" in result.output
