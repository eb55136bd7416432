"""`rayleigh check-manifests`: whether KubeRay's operator, Ray and this project take a manifest. No cluster is asked.

`--json` prints a `ManifestReport`.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from engine.cluster.check import Against, check
from engine.cluster.schemas import read_schemas
from engine.errors import InputError
from engine.records.base import Json, Record

USAGE: Any = typer.BadParameter.__base__  # the base of wrong usage, which typer keeps in a private package
CLUSTER = Path(__file__).parents[2] / "cluster"


class ManifestProblem(Record):
    """Something that is wrong in a manifest."""

    level: str
    """`error`: the API server, the operator or Ray refuses it; `warning`: it is accepted, and fails or costs later."""
    place: str
    """File, kind, name and path of the field."""
    found: str
    """What is there."""
    mend: str
    """What to write instead."""


class ManifestReport(Record):
    """The result of a check of manifests."""

    against: str
    """What the shape was held against: the folder of schemas, or the fields that Rayleigh knows."""
    checked: list[str]
    """File, kind and name of each object."""
    skipped: list[str]
    """File, kind and name of objects of other APIs."""
    problems: list[ManifestProblem]
    """Everything that is wrong, in the order of the files."""

    def count(self, level: str) -> int:
        """Return the number of problems of a level."""
        return sum(problem.level == level for problem in self.problems)


def check_manifests(paths: Sequence[str], schemas: str | None) -> ManifestReport:
    """Check the files `paths`, and of folders their `.yaml` and `.yml`; `schemas` is a folder with the operator's schemas.

    Raises:
        InputError: a file or the schemas cannot be read, or no file holds an object to check.
    """
    loaded = read_schemas(Path(schemas)) if schemas else None
    against = Against(ray=locked_ray(), schemas=loaded, launcher=launcher_schema(), parse=parse)
    checked: list[str] = []
    skipped: list[str] = []
    problems: list[ManifestProblem] = []
    for path in _files(paths):
        try:
            found = check(path.read_text(encoding="utf-8"), str(path), against)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as UTF-8 text: {error}.") from None
        checked += [f"{path}: {name}" for name in found.objects]
        skipped += [f"{path}: {name}" for name in found.skipped]
        for one in found.problems:
            level = "error" if one.refused else "warning"
            problems.append(ManifestProblem(level=level, place=one.place, found=one.found, mend=one.mend))
    if not checked and not problems:
        wanted = "RayCluster, RayJob or RayService, or a file for `ray up`"
        raise InputError(f"{', '.join(paths)}: found nothing to check, expected a {wanted}.")
    return ManifestReport(against=schemas or "the fields that Rayleigh knows", checked=checked, skipped=skipped, problems=problems)


def as_text(report: ManifestReport) -> str:
    """Return a line for each problem, then what was checked against what."""
    lines = [f"{problem.level:7}  {problem.place}: {problem.found} {problem.mend}" for problem in report.problems]
    lines += [f"ok       {name}" for name in report.checked if not any(name in problem.place for problem in report.problems)]
    lines += [f"skipped  {name}" for name in report.skipped]
    counts = f"{report.count('error')} errors, {report.count('warning')} warnings; checked against {report.against}."
    return "\n".join([*lines, "", counts])


def locked_ray() -> str | None:
    """Return the version of Ray in the lock; None if the lock is not there."""
    lock = CLUSTER / "constraints.txt"
    match = re.search(r"^ray(?:\[[^\]]*\])?==(\S+)", lock.read_text(), re.MULTILINE) if lock.is_file() else None
    return match[1] if match else None


def launcher_schema() -> Json | None:
    """Return the schema of files for `ray up` that the installed Ray brings."""
    found = importlib.util.find_spec("ray")
    path = Path(found.origin or "").parent / "autoscaler" / "ray-schema.json" if found else Path()
    return json.loads(path.read_text()) if path.is_file() else None


def parse(words: list[str]) -> str | None:
    """Return what is wrong with a command line, given without the name of the program; None if it can be parsed. Nothing runs."""
    from jobs.cli import app  # it registers this command

    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]  # pyright: ignore[reportAttributeAccessIssue]
    if words and getattr(command, "commands", None):
        return f"no command {words[0]!r}."
    try:
        command.make_context("rayleigh", list(words))
    except typer.Exit:
        return "it shows its help."
    except USAGE as error:
        return str(error) or getattr(error, "message", "") or type(error).__name__
    return None


def _files(paths: Sequence[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        yield from sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")]) if path.is_dir() else [path]
