"""`rayleigh run` without Ray: a line of toy jobs in a process of its own, so that descriptors and signals are real."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_run import made_run, workspace
from typer.testing import CliRunner

from engine.storage.artifact import load_artifact
from engine.storage.shards import Folder
from jobs.cli import app

DRIVER = '''
"""The real command, on two toy jobs and without a cluster."""
import os, subprocess, sys, time, types
from contextlib import nullcontext
from pathlib import Path

cluster = types.ModuleType("engine.distributed.session")
cluster.session = lambda profile: nullcontext()
sys.modules["engine.distributed.session"] = cluster

import jobs.commands.run, jobs.commands.status
from engine.errors import InputError
from engine.storage.artifact import RowCounts
from engine.runs.job import Job
from engine.storage.shards import Folder


def first(context):
    print("noise of Python")
    os.write(1, b"noise of a library\\n")
    subprocess.run(["echo", "noise of a child"])
    context.progress("first: 1 of 2 rows")
    return RowCounts(2, {"kept": 1, "dropped": 1})


def second(context):
    context.writer.folder.write("half.txt", b"half")
    Path(context.root, "begun").touch()
    mode = Path(context.root, "mode").read_text()
    if mode == "wait":
        context.progress("second: 1 of 9 rows")
        time.sleep(60)
    if mode == "refuse":
        raise InputError("the third row is odd")
    if mode == "refuse far away":  # all that Ray keeps of a worker's error
        raise RuntimeError("ray::Worker\\nTraceback:\\n  File x\\nengine.errors.ModelError: no weights\\n  in m\\n\\nThe above was")
    if mode == "bug":
        raise ZeroDivisionError("ours")
    context.writer.folder.remove("half.txt")
    return RowCounts(1, {"kept": 1})


def toys(contract):
    return (
        Job("first", needs=(), reads=("teachers",), run="__main__:first"),
        Job("second", needs=("first",), reads=("judges",), run="__main__:second"),
    )


jobs.commands.run.line = jobs.commands.status.line = toys
jobs.commands.run.summary.report = lambda run: {}
jobs.commands.run.summary.text = lambda run, found: "the table"
from jobs.cli import main

main()
'''


class Toy:
    """A contract, a run folder and a driver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "runs" / "toy"
        workspace(str(self.run), folder)
        (folder / "driver.py").write_text(DRIVER)
        self.mode("fine")

    def mode(self, mode: str) -> None:
        (self.folder / "mode").write_text(mode)

    def words(self, *more: str) -> list[str]:
        return [sys.executable, str(self.folder / "driver.py"), "run", str(self.folder / "toy.yaml"), str(self.run), *more]

    def __call__(self, *more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.words(*more), capture_output=True, text=True)

    def begun(self, **given: object) -> "subprocess.Popen[str]":
        """Start, and return once the second job is at work."""
        self.mode("wait")
        process = subprocess.Popen(self.words(), text=True, **given)  # type: ignore[call-overload]
        while not (self.folder / "begun").exists():
            assert process.poll() is None
            time.sleep(0.02)
        return process

    def log(self) -> str:
        return "".join(path.read_text() for path in (self.run / "logs").iterdir())

    def finished(self) -> list[str]:
        return [name for name in ("first", "second") if load_artifact(Folder(str(self.run / name)))]

    def half(self) -> list[str]:
        return [path for path in Folder(str(self.run)).files() if "half" in path]


@pytest.fixture(autouse=True, scope="module")
def found_by_processes():
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    yield
    del os.environ["PYTHONPATH"]


@pytest.fixture
def toy(tmp_path):
    return Toy(tmp_path)


@pytest.fixture(scope="module")
def went_well(tmp_path_factory):
    """A run that nothing disturbed, and what it printed; tests only look at it."""
    toy = Toy(tmp_path_factory.mktemp("toy"))
    done = toy()
    assert done.returncode == 0, done.stderr
    return toy, done


def refuse(*words):
    """The message of a command that is refused before anything runs; the line is the real one."""
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 1, result.output
    return result.stderr


def test_run_prints_our_lines_and_sends_the_noise_to_a_log_that_it_names(went_well):
    toy, done = went_well
    assert done.stderr == "" and "noise" not in done.stdout and "\x1b" not in done.stdout
    [log] = re.findall(r"log +(\S+)", done.stdout)
    assert Path(log).parent == toy.run / "logs"
    for noise in ("noise of Python", "noise of a library", "noise of a child"):
        assert noise in Path(log).read_text()


def test_run_without_a_terminal_tells_start_and_end_only_and_logs_progress(went_well):
    toy, done = went_well
    lines = [line for line in done.stdout.splitlines() if line.startswith(("first", "second"))]
    assert [re.sub(r"\d+ s", "n s", line) for line in lines] == [
        "first: started", "first: n s, 1 kept, 1 dropped", "second: started", "second: n s, 1 kept",
    ]  # fmt: skip
    assert "first: 1 of 2 rows" in toy.log()


def test_run_ends_with_the_short_table(went_well):
    assert went_well[1].stdout.endswith("the table\n")


def test_run_remembers_contract_and_profile(went_well):
    toy, _ = went_well
    kept = json.loads((toy.run / "run.json").read_text())
    assert set(kept) == {"contract", "contract_path", "root", "profile", "created"}
    assert kept["contract"]["name"] == "toy" and kept["profile"]["name"] == "laptop"
    assert kept["root"] == str(toy.folder)


def test_run_on_a_terminal_shows_progress_and_takes_it_away(toy):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(toy.words(), stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the terminal is gone: the command has ended
            break
        shown += piece
    process.wait()
    os.close(ours)
    assert b"first: 1 of 2 rows" in shown and b"noise" not in shown
    assert shown.rindex(b"\x1b[2K") > shown.rindex(b"first: 1 of 2 rows")


def test_run_twice_does_nothing_the_second_time_and_says_so(went_well):
    toy, _ = went_well
    done = toy()
    assert done.returncode == 0
    assert done.stdout.startswith(f"Nothing to do: every job of {toy.run} is finished.")
    assert len(list((toy.run / "logs").iterdir())) == 1


def test_run_whose_job_fails_says_which_where_the_log_is_and_what_is_kept(toy):
    toy.mode("refuse")
    done = toy()
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[0] == "InputError: the third row is odd"
    assert said[1] == "This ended the job second."
    assert said[2].startswith("Finished jobs are kept") and str(toy.run / "logs") in said[2]
    assert toy.finished() == ["first"] and toy.half() == []


def test_run_whose_worker_fails_says_what_the_worker_said(toy):
    toy.mode("refuse far away")
    said = toy().stderr.splitlines()
    assert said[:3] == ["ModelError: no weights", "  in m", "This ended the job second."]
    assert said[3].startswith("Finished jobs are kept")


def test_run_meeting_a_bug_shows_its_traceback_and_the_log(toy):
    toy.mode("bug")
    done = toy()
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ZeroDivisionError: ours" in done.stderr and str(toy.run / "logs") in done.stderr
    assert toy.finished() == ["first"] and toy.half() == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_stopped_ends_with_130_and_leaves_nothing_half_written(toy, sign):
    process = toy.begun(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.send_signal(sign)
    _, error = process.communicate()
    assert process.returncode == 130
    assert error.startswith("Stopped.") and "run the same command again" in error and "Traceback" not in error
    assert toy.finished() == ["first"] and toy.half() == []
    toy.mode("fine")
    assert toy().returncode == 0 and toy.finished() == ["first", "second"]


def test_run_while_another_is_at_work_is_refused_until_that_one_is_killed(toy):
    process = toy.begun(stdout=subprocess.DEVNULL)
    assert "another `rayleigh run` works in this folder" in refuse("run", str(toy.folder / "toy.yaml"), str(toy.run))
    process.kill()
    process.wait()
    assert toy.half() != []  # kill -9 leaves it, under a name that nothing reads
    toy.mode("fine")
    assert toy().returncode == 0
    assert toy.finished() == ["first", "second"] and toy.half() == []


def test_run_into_a_place_that_refuses_says_so(toy):
    said = refuse("run", str(toy.folder / "toy.yaml"), "/proc/nowhere/run")
    assert said.startswith("StorageError: /proc/nowhere/run: cannot be written")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("prompts.sources.0.path=gone.jsonl", "InputError: prompts.sources.0.path: found nothing at"),
        ("students.0.init.prune.source=gone", "ModelError: students.0.init.prune.source: model 'gone': there is no folder"),
        ("studnets=1", "ContractError:"),
        ("gate.exact_match=1.5", "ContractError:"),
    ],
)
def test_run_that_cannot_end_well_is_refused_before_it_begins(toy, change, said):
    assert refuse("run", str(toy.folder / "toy.yaml"), str(toy.run), "--set", change).startswith(said)
    assert not (toy.run / "run.json").exists() and toy.finished() == []


def test_run_with_a_changed_recipe_is_refused_and_leaves_what_is_remembered(toy):
    made_run(str(toy.run), toy.folder)
    before = (toy.run / "run.json").read_bytes()
    said = refuse("run", str(toy.folder / "toy.yaml"), str(toy.run), "--set", "teachers.models.0.sampling.n=3")
    assert said.startswith("RecipeMismatch: ") and "teachers.models.0.sampling.n: 1 -> 3" in said and "Use a new run folder" in said
    assert (toy.run / "run.json").read_bytes() == before


def test_run_of_a_finished_contract_whose_seeds_have_changed_names_the_file(toy):
    made_run(str(toy.run), toy.folder)
    (toy.folder / "seeds.jsonl").write_text('{"input": "three apples"}\n')
    assert "sources.seeds.jsonl" in refuse("run", str(toy.folder / "toy.yaml"), str(toy.run))


def test_run_of_a_finished_contract_imports_no_ray(toy):
    made_run(str(toy.run), toy.folder)
    code = """
import sys, jobs.cli
try:
    jobs.cli.app(sys.argv[1:])
except SystemExit:
    print([name for name in ("ray", "torch", "vllm") if name in sys.modules])
"""
    words = ["run", str(toy.folder / "toy.yaml"), str(toy.run)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Nothing to do") and done.stdout.endswith("[]\n")
