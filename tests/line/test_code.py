"""Answers that are hostile programs, through the whole job on real Ray: each is tagged, and the grader goes on."""

import json

import psutil
import pytest

from engine.rows import CANDIDATE
from tests.line import data_world as world

HOSTILE = {  # the fake teacher says what it is asked
    "double = lambda x: 2 * x": "",
    "double = lambda x: 3 * x": "tests_failed",
    "import os; [os.fork() for endless in iter(int, 1)]": "forbidden",
    "[None for loop in iter(int, 1)]": "timed_out",
    "memory = bytearray(100 * 2 ** 30)": "out_of_memory",
    "import os; os.kill(os.getppid(), 9)": "forbidden",
    "[print('noise' * 999) for again in iter(int, 1)]": "too_much_output",
    "import socket; socket.create_connection(('127.0.0.1', 80))": "forbidden",
    "stolen = open('/proc/self/environ').read()": "forbidden",
    "deeper = lambda: deeper(); deeper()": "crashed",
    "import sys; sys.exit(0)": "unfinished",
}
CHECK = {"type": "code", "tests": {"field": "tests"}, "cpu_seconds": 1, "seconds": 5}
SOURCE = {"path": "seeds.jsonl", "licence": "CC0-1.0", "columns": {"text": "input", "reference": "given"}}
ORDER = world.contract(
    prompts={**world.CONTRACT["prompts"], "sources": [SOURCE], "copies": {"threshold": 1}}, judges={"checks": [CHECK]}
)  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("code")
    seeds = [{"input": text, "given": {"tests": "assert double(4) == 8"}} for text in HOSTILE]
    (folder / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    (folder / "holdout.jsonl").write_text(json.dumps({"input": "We need 3 red kites.", "reference": "{}"}) + "\n")
    world.run(folder, "prompts", ORDER)
    found = world.run(folder, "candidates", ORDER).read("candidates", CANDIDATE).to_pylist()
    return {row["text"]: row for row in found}


def test_every_program_is_graded_and_tagged(rows: dict[str, dict]) -> None:
    assert {text: row["checks"][0]["tag"] for text, row in rows.items()} == HOSTILE


def test_reference_travels_with_its_prompt(rows: dict[str, dict]) -> None:
    assert {row["reference"] for row in rows.values()} == {'{"tests":"assert double(4) == 8"}'}


def test_no_program_is_left(rows: dict[str, dict]) -> None:
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if "rayleigh-program-" in str(one.info["cmdline"])] == []
