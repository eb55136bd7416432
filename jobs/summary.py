"""The short words about a run: its funnel, its models against the teacher, what the gate says, where the page is."""

import json
from typing import Any

from engine.shards import Folder
from jobs import workspace
from jobs.console import columns
from jobs.status import funnel, status

PAGE = "reports/index.html"
NUMBERS = "reports/report.json"


def report(run: str) -> dict[str, Any]:
    """Return `report.json` of a finished run: its keys are documented in `jobs/reports.py`.

    Raises:
        MissingArtifact: the run has no report yet.
    """
    from engine.errors import MissingArtifact

    folder = workspace.reopen(run).folder
    if not folder.exists(NUMBERS):
        raise MissingArtifact(f"{folder}: has no report yet. Finish the run first; `rayleigh status {run}` says how far it is.")
    return json.loads(folder.read(NUMBERS))


def summary(folder: Folder) -> str:
    """Return the short table."""
    parts = [funnel(status(folder.url)["jobs"])]
    if folder.exists(NUMBERS):
        parts.append(f"report   {folder}/{PAGE}")
        parts.append(f"release  rayleigh promote {folder}")
    return "\n\n".join(parts)
