"""The command line as a whole: quick, few options, clean refusals, promotion and return."""

import json
import subprocess
import sys

import typer
from made_run import made_run
from typer.testing import CliRunner

from jobs.cli import app

HEAVY = ("ray", "torch", "vllm", "pyarrow", "duckdb", "rich")


def python(code, *given):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=True).stdout


def ask(*words, code=0):
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_importing_the_command_and_asking_for_help_imports_nothing_heavy():
    code = f"""
import sys, jobs.cli
try:
    jobs.cli.app(["run", "--help"])
except SystemExit:
    print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(code).endswith("[]\n")


def test_reading_a_run_imports_neither_ray_nor_torch(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    code = """
import sys, jobs.cli
for words in (["status"], ["report"], ["sql", "select 1"], ["trace", "eeee5555"]):
    try:
        jobs.cli.app([words[0], sys.argv[1], *words[1:]])
    except SystemExit as end:
        print("ended", words[0], end.code)
print([name for name in ("ray", "torch", "vllm") if name in sys.modules])
"""
    lines = python(code, str(folder)).splitlines()
    assert [line[6:] for line in lines if line.startswith("ended")] == ["status 0", "report 0", "sql 0", "trace 0"]
    assert lines[-1] == "[]"


def test_options_are_these_and_no_more():
    commands = dict(typer.main.get_command(app).commands)
    for group in ("bench", "review"):
        commands |= {f"{group} {name}": command for name, command in commands.pop(group).commands.items()}
    found = {
        name: sorted(flag for given in command.params for flag in given.opts if "-" in flag) for name, command in commands.items()
    }
    assert found == {
        "check": ["--ask", "--json", "--set"],
        "run": ["--profile", "--set", "--until"],
        "judge": ["--gold", "--json", "--profile", "--set"],
        "status": ["--json"],
        "report": ["--json"],
        "sql": ["--json"],
        "trace": ["--json"],
        "promote": ["--json", "--point", "--registry", "--student", "--undecided", "--why"],
        "ablate": ["--buckets", "--curve", "--epochs", "--json", "--profile", "--seeds", "--student"],
        "rejudge": ["--contract", "--json", "--profile", "--set", "--write"],
        "rollback": ["--json", "--registry"],
        "withdraw": ["--dry-run", "--json", "--licence", "--prompt", "--runs", "--source", "--why"],
        "dedup": [
            "--against",
            "--damaged",
            "--id-column",
            "--index",
            "--json",
            "--keep",
            "--method",
            "--model",
            "--normalization",
            "--profile",
            "--text-column",
            "--threshold",
        ],
        "doctor": ["--json", "--profile"],
        "search": ["--json", "--profile", "--set", "--space"],
        "bench capture": ["--examples", "--json", "--profile", "--rounds"],
        "bench dedup": ["--corpus", "--json", "--peers", "--profile", "--rounds", "--rows"],
        "bench flow": ["--json", "--profile", "--rows"],
        "bench generate": ["--json", "--profile", "--prompts", "--rounds"],
        "bench judge": ["--answers", "--json", "--profile", "--rounds"],
        "bench prune": [
            "--epochs",
            "--json",
            "--profile",
            "--recover-steps",
            "--seeds",
            "--steps",
            "--student",
            "--work",
        ],
        "bench recipe": ["--contract", "--json", "--mails", "--profile", "--seeds", "--set", "--student", "--work"],
        "bench semantic": ["--json", "--profile", "--rounds", "--texts"],
        "bench train": ["--json", "--part", "--profile", "--rounds", "--run", "--steps", "--student"],
        "review export": ["--draw", "--format", "--json", "--pool"],
        "review import": ["--json"],
        "plan": ["--json", "--pilot", "--profile", "--set"],
    }


def test_usage_mistake_ends_with_two():
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 2 and "RUN" in result.stderr


def test_unknown_profile_names_the_known(tmp_path):
    error = ask("doctor", "--profile", "moon", code=1)
    assert "--profile moon: there is no such profile. Known: cluster, gpu-node, laptop." in error


def test_promote_makes_the_smallest_that_passes_champion_and_rollback_returns(tmp_path):
    run = str(made_run(str(tmp_path / "runs" / "one"), tmp_path).folder)
    promoted = json.loads(ask("promote", run, "--json"))
    assert (promoted["student"], promoted["changed"]) == ("small", True)
    assert promoted["release"].startswith(str(tmp_path / "runs" / "registry" / "toy"))
    assert "was the champion already" in ask("promote", run)
    assert "is the first champion" in ask("rollback", run, code=1)
    assert "is the first champion" in ask("rollback", "toy", "--registry", str(tmp_path / "runs" / "registry"), code=1)


def test_promote_of_a_student_that_fails_names_the_number(tmp_path):
    run = str(made_run(str(tmp_path / "run"), tmp_path).folder)
    error = ask("promote", run, "--student", "large", "--registry", str(tmp_path / "kept"), code=1)
    assert error.startswith("GateRefused: ") and "exact_match: found 0.400, wanted at least 0.5" in error
    assert not (tmp_path / "kept").exists()
