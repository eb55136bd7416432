"""The command line as a whole: few options, clean refusals, promotion and return."""

import json
import shlex

import typer
from made_run import made_run
from typer.testing import CliRunner

from jobs.cli import app
from jobs.terminal.examples import EXAMPLES


def ask(*words, code=0):
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_options_are_these_and_no_more():
    commands = dict(typer.main.get_command(app).commands)
    for group in ("bench", "review", "schema"):
        commands |= {f"{group} {name}": command for name, command in commands.pop(group).commands.items()}
    found = {
        name: sorted(flag for given in command.params for flag in given.opts if "-" in flag) for name, command in commands.items()
    }
    assert found == {
        "check": ["--ask", "--json", "--nodes", "--profile", "--set"],
        "run": ["--profile", "--set", "--until"],
        "iterate": ["--from-traffic", "--json", "--profile", "--rounds", "--set"],
        "judge": ["--gold", "--json", "--profile", "--set"],
        "status": ["--json"],
        "report": ["--json"],
        "sql": ["--csv", "--database", "--json", "--markdown", "--parquet", "--question", "--questions", "--registry"],
        "trace": ["--json"],
        "promote": ["--json", "--point", "--registry", "--student", "--undecided", "--why"],
        "ablate": ["--buckets", "--curve", "--epochs", "--json", "--profile", "--seeds", "--student"],
        "rejudge": ["--contract", "--json", "--profile", "--set", "--write"],
        "rollback": ["--json", "--registry"],
        "compare": ["--json", "--page"],
        "export": ["--json", "--licence", "--push", "--redact", "--registry", "--where"],
        "withdraw": ["--dry-run", "--json", "--licence", "--prompt", "--runs", "--source", "--why"],
        "cascade": ["--alpha", "--delta", "--json", "--niche", "--seed", "--stage"],
        "check-data": ["--json", "--quick"],
        "schema diff": ["--json"],
        "schema package": ["--json"],
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
        "serve": [
            "--cascade",
            "--connections",
            "--days",
            "--deadline",
            "--fallback",
            "--follow",
            "--host",
            "--keep-previous",
            "--keep-text",
            "--keys-env",
            "--local",
            "--max-body",
            "--port",
            "--profile",
            "--queue",
            "--records",
            "--replicas",
            "--sample",
            "--shadow",
            "--shadow-reference",
            "--shadow-share",
            "--with-teacher",
        ],
        "watch": ["--baseline", "--encoder", "--json", "--labels", "--once", "--page", "--run", "--student"],
        "explain": ["--json"],
        "view": ["--port"],
        "init": ["--accuracy", "--goal", "--json", "--kind", "--name", "--teacher"],
        "search": ["--json", "--profile", "--set", "--space"],
        "check-manifests": ["--json", "--schemas", "--strict"],
        "submit": ["--address", "--detach", "--profile", "--set", "--stop", "--working-dir"],
        "manifests": ["--image", "--out", "--profile", "--queue", "--set", "--storage"],
        "bench cascade": ["--alpha", "--draws", "--json", "--peers", "--splits", "--student"],
        "bench capture": ["--examples", "--json", "--profile", "--rounds"],
        "bench dedup": ["--corpus", "--json", "--peers", "--profile", "--rounds", "--rows"],
        "bench flow": ["--json", "--profile", "--rows"],
        "bench generate": ["--json", "--profile", "--prompts", "--rounds"],
        "bench judge": ["--answers", "--json", "--profile", "--rounds"],
        "bench monitor": ["--json", "--peers", "--rows", "--streams"],
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
        "bench overload": ["--deadline", "--json", "--minutes", "--profile", "--queue", "--slow", "--times"],
        "bench recipe": ["--contract", "--json", "--mails", "--profile", "--seeds", "--set", "--student", "--work"],
        "bench registry": ["--json", "--kills", "--peers", "--processes", "--turns"],
        "bench scale": ["--against", "--json", "--list-rows", "--out", "--profile", "--raylets", "--rows", "--with"],
        "bench semantic": ["--json", "--profile", "--rounds", "--texts"],
        "bench serve": ["--callers", "--json", "--part", "--profile", "--prompts", "--rounds", "--seconds", "--shadow-share"],
        "bench view": ["--json", "--rounds", "--rows", "--work"],
        "bench train": ["--json", "--minutes", "--part", "--profile", "--rounds", "--run", "--steps", "--student"],
        "review export": ["--draw", "--format", "--json", "--pool"],
        "review import": ["--json"],
        "plan": ["--coefficients", "--json", "--pilot", "--pilot-profile", "--profile", "--rows", "--set", "--speed"],
    }


def test_every_command_shows_examples_that_its_parser_accepts():
    root = typer.main.get_command(app)
    assert {name.split()[0] for name in EXAMPLES} == set(root.commands)
    for name, lines in EXAMPLES.items():
        command = root
        for word in name.split():
            command = command.commands[word]
        for line in lines:
            words = shlex.split(line)
            assert words[: 1 + len(name.split())] == ["rayleigh", *name.split()]
            command.make_context(name, words[1 + len(name.split()) :])
        shown = ask(*name.split(), "--help")
        assert all(line in shown for line in lines), "each is to be copied, so none is wrapped"


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
