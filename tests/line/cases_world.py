"""A folder with one contract that a case changes, and the command run on it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from typer.testing import CliRunner, Result

from jobs.cli import app
from tests.line.data_world import CONTRACT, mails, write_jsonl
from tests.refusing_server import Server

PROFILE = {
    "name": "test",
    "teacher": {"actors": 1, "batch": 4, "kv_cache_gib": 0.1, "max_num_seqs": 4},
    "cpu": {"actors": 1, "cpus": 0.5},
    "embedder": {"actors": 1, "cpus": 0.5},
    "trainer": {"actors": 1, "cpus": 0.5},
}
TEXTS = mails(10)
UNIT = {"name": "unit", "kind": "rewrite", "instruction": "Answer the user."}
HELD = [{"input": "Where is the nearest pharmacy, please?", "reference": "Round the corner."}]
HOLDOUT = {"path": "holdout.jsonl", "labels": "human", "columns": {"text": "input", "reference": "reference"}}
Rows = list[dict[str, Any]]


class Desk:
    """A folder with the contract `contract.yaml`, its holdout, and run folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_jsonl(folder / "holdout.jsonl", HELD)
        (folder / "profile.yaml").write_text(yaml.safe_dump(PROFILE))

    def source(self, rows: list[Any], name: str = "train.jsonl") -> str:
        """Write `rows`, or a prompt of each text; return the name of the file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, [{"input": row} if isinstance(row, str) else row for row in rows])
        return name

    def contract(self, source: str | list[Any], columns: dict[str, str] | None = None, **sections: Any) -> None:
        """Write the contract; `unit`, `model` (of the teacher), `teacher`, `checks`, `holdout` and `redact` change a part of it."""
        path = source if isinstance(source, str) else self.source(source)
        prompts = {"sources": [{"path": path, "licence": "CC0-1.0", "columns": columns or {"text": "input"}}]}
        prompts |= {"holdout": HOLDOUT | sections.pop("holdout", {}), "redact": sections.pop("redact", [])}
        teacher = {"name": "t", "model": sections.pop("model", {"type": "fake"})} | sections.pop("teacher", {})
        parts = {
            "specialist": {"goal": "Answer.", "task_units": [UNIT | sections.pop("unit", {})]},
            "prompts": prompts,
            "teachers": {"mode": "direct", "models": [teacher]},
            "judges": {"checks": sections.pop("checks", [])},
            "students": [{"name": "s", "init": {"prune": {"source": "smollm2-135m-instruct", "layers": [0]}}}],
        }
        (self.folder / "contract.yaml").write_text(yaml.safe_dump(CONTRACT | parts | sections))

    def run(self, until: str = "prompts", run: str = "run") -> Result:
        """Run the contract up to a step."""
        words = [self.folder / "contract.yaml", self.folder / run, "--profile", self.folder / "profile.yaml", "--until", until]
        return self.command("run", *words)

    def command(self, *words: Any) -> Result:
        """Run a command; an exception that is no message to the user ends the test."""
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    def check(self) -> Result:
        return self.command("check", self.folder / "contract.yaml")

    def rows(self, step: str, table: str = "", run: str = "run") -> Rows:
        """Return the rows of a table of a run."""
        return pq.read_table(self.folder / run / step / (table or step)).to_pylist()

    def prompts(self, source: str | list[Any], columns: dict[str, str] | None = None, **sections: Any) -> Rows:
        """Run the step `prompts` on a source and return its rows."""
        self.contract(source, columns, **sections)
        accepted(self.run())
        return self.rows("prompts")

    def answers(self, source: str | list[Any], **sections: Any) -> Rows:
        """Run the steps up to `candidates` and return their rows."""
        self.contract(source, sections.pop("columns", None), **sections)
        accepted(self.run("candidates"))
        return self.rows("candidates")

    def dedup(self, source: str, out: str = "out") -> tuple[Result, Rows]:
        """Run `rayleigh dedup`; return its result and the rows that it kept."""
        result = self.command("dedup", self.folder / source, self.folder / out, "--profile", self.folder / "profile.yaml")
        accepted(result)
        parts = sorted((self.folder / out).rglob("part-*.parquet"))
        return result, [row for part in parts for row in pq.read_table(part).to_pylist()]


def accepted(result: Result) -> None:
    assert result.exit_code == 0, result.output


def refused(result: Result, *words: str) -> None:
    """The command ended with a message of its own that holds `words`."""
    assert result.exit_code not in (0, None), result.output
    assert "Traceback" not in result.output and all(word in result.output for word in words), result.output


def schema_of(**properties: Any) -> dict[str, Any]:
    """Return a task unit's output: an object with `properties`, all of them required."""
    return {"json_schema": {"type": "object", "properties": properties, "required": list(properties)}}


def endpoint(server: Server, **keys: Any) -> dict[str, Any]:
    """Return a teacher's model behind `server`."""
    return {"type": "endpoint", "url": server.url, "path": "m", "retries": 0, "logprobs": False, **keys}
