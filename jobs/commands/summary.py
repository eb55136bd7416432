"""The short words about a run: its funnel, its models against the teacher, what the gate says, where the page is."""

import json
from typing import Any

from engine.errors import MissingArtifact
from engine.release.gate import explain
from engine.storage.shards import Folder
from jobs import workspace
from jobs.commands.status import job_table, judge_note, spending_table, status
from jobs.terminal.console import columns

PAGE = "reports/index.html"
NUMBERS = "reports/report.json"


def report(run: str) -> dict[str, Any]:
    """Return the report's numbers, as `report.json` holds them; the README documents the keys.

    Raises:
        MissingArtifact: the run has no report yet.
    """
    folder = workspace.reopen(run).folder
    if not folder.exists("reports/record.json"):
        raise MissingArtifact(f"{folder}: has no report yet. `rayleigh status {run}` shows how far it is; `rayleigh run` goes on.")
    return json.loads(folder.read(NUMBERS))


def text(run: str, found: dict[str, Any]) -> str:
    """Return the short table of a run whose report says `found`."""
    folder = workspace.run_folder(run)
    far = status(run)
    parts = [
        job_table(far.jobs),
        spending_table(far.spending),
        judge_note(far.judge),
        _models(found["models"]),
        "\n".join([*_gate(found["gate"], folder), f"report   {folder}/{PAGE}"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _models(models: list[dict[str, Any]]) -> str:
    """One line a model: how large, how often right with its interval, how much of the teacher it keeps, how fast."""
    head = ["model", "role", "parameters", "exact match", "of it unseen", "keeps of teacher", "p95 ms"]
    rows = [
        [
            model["name"],
            model["role"],
            _size(model["parameters"], model["size_vs_teacher"]),
            _interval(model["metrics"]["exact_match"]),
            _interval(model["metrics"]["exact_match_unseen"]),
            _interval(model["against_teacher"] and model["against_teacher"]["retention"]),
            model["latency"] and round(model["latency"]["p95_ms"]),
        ]
        for model in models
    ]
    return columns(rows, head=head)


def _gate(word: dict[str, Any], folder: Folder) -> list[str]:
    refused = [line for name, numbers in word["refusals"].items() for line in _refusal(name, numbers)]
    if not word["passing"]:
        return refused
    passing = ", ".join(word["passing"])
    return [*refused, f"gate     passed by {passing}", f"release  rayleigh promote {folder}"]


def _refusal(name: str, numbers: list[dict[str, Any]]) -> list[str]:
    return [f"gate     refuses {name}", *(f"           {explain(number)}" for number in numbers)]


def _size(parameters: int | None, share: float | None) -> str:
    if not parameters:
        return "-"
    return f"{parameters / 1e6:.1f} M" + (f" (1/{1 / share:.1f})" if share and share < 1 else "")


def _interval(found: dict[str, Any] | None) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "-"


def of_release(found: dict[str, Any]) -> str:
    """Return in words what `promote` or `rollback` did."""
    who, where = f"{found['contract']}: {found['student']}", f"release  {found['release']}"
    if "left" in found:
        return f"{who} is champion again, in place of {found['left']}\n{where}"
    if not found["changed"]:
        return f"{who} was the champion already\n{where}"
    before = f", in place of {found['before']}" if found["before"] else ""
    undo = f"rayleigh rollback {found['contract']} --registry {found['release'].rsplit('/', 3)[0]}"
    return f"{who} is the champion{before}\n{where}\nundo     {undo}"
