"""`rayleigh run` without Ray: a pipeline of toy jobs in a process of its own, so that descriptors and signals are real.

A job that is to be stopped sends the signal to its own process: no test waits for another process or for the clock.
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from jobs.cli import app
from jobs.terminal.console import CLEAR_LINE, Console
from jobs.workspace import locked
from tests.unit.made_run import made_run, workspace

DRIVER = '''
"""The real command, on two toy jobs and without a cluster."""
import os, signal, subprocess, sys, time, types
from contextlib import nullcontext
from pathlib import Path

from engine.distributed.placement import Group

cluster = types.ModuleType("engine.distributed.session")


def session(profile):
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as ray.init does
    return nullcontext()


cluster.session = session
cluster.groups = lambda profile: ([Group("node", {"CPU": 99.0}, 1, 1)], True)
sys.modules["engine.distributed.session"] = cluster

import jobs.commands.run, jobs.commands.status
from engine.errors import InputError
from engine.storage.artifact import RowCounts
from engine.runs.job import Job
from engine.storage.folder import Folder


def first(context):
    print("noise of Python")
    os.write(1, b"noise of a library\\n")
    subprocess.run(["echo", "noise of a child"])
    context.progress("first: 1 of 2 rows")
    return RowCounts(2, {"kept": 1, "dropped": 1})


def second(context):
    context.writer.folder.write("half.txt", b"half")
    mode = Path(context.root, "mode").read_text()
    if mode.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[mode])
        time.sleep(60)  # the signal ends it
    if mode == "refuse":
        raise InputError("the third row is odd")
    if mode == "refuse in a worker":  # Ray keeps the text of a worker's traceback
        raise RuntimeError("ray::Worker\\nTraceback:\\n  File x\\nengine.errors.ModelError: no weights\\n  in m\\n\\nThe above was")
    if mode == "bug":
        raise ZeroDivisionError("a bug")
    context.writer.folder.remove("half.txt")
    return RowCounts(1, {"kept": 1})


def toys(contract):
    return (
        Job("first", needs=(), reads=("teachers",), run="__main__:first"),
        Job("second", needs=("first",), reads=("judges",), run="__main__:second"),
    )


jobs.commands.run.pipeline = jobs.commands.status.pipeline = toys
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
    assert set(kept) == {"version", "contract", "contract_path", "root", "profile", "created"}
    assert kept["contract"]["name"] == "toy" and kept["profile"]["name"] == "laptop"
    assert kept["root"] == str(toy.folder)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True

    def last_line(self):
        """The line in which the cursor is, as a person sees it."""
        return self.getvalue().rpartition("\n")[2].rpartition(CLEAR_LINE)[2]


def test_console_on_a_terminal_shows_the_progress_of_each_job_and_removes_it(tmp_path):
    terminal = Terminal()
    console = Console(terminal)
    with console.noise_to(tmp_path / "log"):
        console.progress("first: 1 of 2 rows")
        console.progress("second: 3 of 9 rows")
        assert terminal.last_line() == "first: 1 of 2 rows | second: 3 of 9 rows"
        console.log("first: 1 s, 2 kept")
        assert terminal.last_line() == "second: 3 of 9 rows"
    assert terminal.last_line() == "" and "first: 1 s, 2 kept\n" in terminal.getvalue()


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
    message = done.stderr.splitlines()
    assert message[0] == "InputError: the third row is odd"
    assert message[1] == "This ended the job second."
    assert message[2].startswith("Finished jobs are kept") and str(toy.run / "logs") in message[2]
    assert toy.finished() == ["first"] and toy.half() == []


def test_run_whose_worker_fails_says_what_the_worker_said(toy):
    toy.mode("refuse in a worker")
    message = toy().stderr.splitlines()
    assert message[:3] == ["ModelError: no weights", "  in m", "This ended the job second."]
    assert message[3].startswith("Finished jobs are kept")


def test_run_meeting_a_bug_shows_its_traceback_and_the_log(toy):
    toy.mode("bug")
    done = toy()
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ZeroDivisionError: a bug" in done.stderr and str(toy.run / "logs") in done.stderr
    assert toy.finished() == ["first"] and toy.half() == []


@pytest.mark.parametrize("sign", ["SIGINT", "SIGTERM"])
def test_run_that_is_stopped_ends_with_130_and_leaves_nothing_half_written(toy, sign):
    toy.mode(sign)
    done = toy()
    assert done.returncode == 130
    assert done.stderr.startswith("Stopped.") and "run the same command again" in done.stderr and "Traceback" not in done.stderr
    assert toy.finished() == ["first"] and toy.half() == []
    toy.mode("fine")
    assert toy().returncode == 0 and toy.finished() == ["first", "second"]


def test_run_while_another_holds_the_folder_is_refused(toy):
    with locked(Folder(str(toy.run))):
        assert "another `rayleigh run` works in this folder" in refuse("run", str(toy.folder / "toy.yaml"), str(toy.run))
    assert toy().returncode == 0


def test_run_after_a_kill_continues_and_removes_what_is_half_written(toy):
    toy.mode("SIGKILL")
    assert toy().returncode == -signal.SIGKILL
    assert toy.half() != []  # in a folder that nothing reads
    toy.mode("fine")
    assert toy().returncode == 0
    assert toy.finished() == ["first", "second"] and toy.half() == []


def test_run_into_a_place_that_refuses_says_so(toy):
    message = refuse("run", str(toy.folder / "toy.yaml"), "/proc/nowhere/run")
    assert message.startswith("StorageError: /proc/nowhere/run: cannot be written")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("prompts.sources.0.path=gone.jsonl", "InputError: prompts.sources.0.path: found nothing at"),
        ("students.0.init.prune.source=gone", "ModelError: students.0.init.prune.source: model 'gone': there is no folder"),
        ("studnets=1", "ContractError:"),
        ("gate.exact_match=1.5", "ContractError:"),
    ],
)
def test_run_that_cannot_end_well_is_refused_before_it_begins(toy, change, message):
    assert refuse("run", str(toy.folder / "toy.yaml"), str(toy.run), "--set", change).startswith(message)
    assert not (toy.run / "run.json").exists() and toy.finished() == []


def test_run_with_a_changed_recipe_is_refused_and_leaves_what_is_remembered(toy):
    made_run(str(toy.run), toy.folder)
    before = (toy.run / "run.json").read_bytes()
    message = refuse("run", str(toy.folder / "toy.yaml"), str(toy.run), "--set", "teachers.models.0.sampling.n=3")
    assert (
        message.startswith("RecipeMismatch: ")
        and "teachers.models.0.sampling.n: 1 -> 3" in message
        and "Use a new run folder" in message
    )
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
