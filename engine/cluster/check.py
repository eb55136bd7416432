"""All checks of a file of manifests for KubeRay, or of one for `ray up`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from engine.cluster import rules_cluster, rules_job, rules_names, rules_pods, rules_service
from engine.cluster.launcher import check_launcher, is_launcher
from engine.cluster.manifest import KINDS, Manifest, Problem, read
from engine.cluster.schemas import Schema, check_fields, check_schema


class Checked(NamedTuple):
    """The result for one file."""

    objects: list[str]
    """Kind and name of each object that was checked."""
    skipped: list[str]
    """Kind and name of each object of another API, which is not checked."""
    problems: list[Problem]


class Against(NamedTuple):
    """What manifests are held against."""

    ray: str | None = None
    """Version of Ray that the lock holds."""
    schemas: Mapping[str, Schema] | None = None
    """Closed schemas by kind; None: the fields that Rayleigh knows."""
    launcher: Mapping[str, Any] | None = None
    """Ray's own schema of files for `ray up`."""
    parse: Callable[[list[str]], str | None] = lambda words: None
    """Takes the words after `rayleigh` of an entrypoint; returns what is wrong with them, or None."""


def check(text: str, file: str, against: Against) -> Checked:
    """Return what is wrong in the YAML `text` of `file`, each thing once, in the order of the documents."""
    manifests, problems = read(text, file)
    ours = [one for one in manifests if one.kind in KINDS and one.root["apiVersion"].text.startswith("ray.io/")]
    launchers = [one for one in manifests if is_launcher(one.root.value)]
    others = [one for one in manifests if one not in ours and one not in launchers]
    nameless = [one for one in others if not one.kind or not one.root["apiVersion"]]
    problems += [Problem(file, "a document has no apiVersion or no kind.", "Write both.") for _ in nameless]
    for manifest in ours:
        problems += _problems(manifest, against)
    for launcher in launchers:
        problems += check_launcher(launcher.root.value, file, schema=against.launcher, ray=against.ray)
    checked = [*(f"{one.kind} {one.name}" for one in ours), *(f"ray up {one.root['cluster_name'].value}" for one in launchers)]
    return Checked(checked, [f"{one.kind} {one.name}" for one in others], problems)


def _problems(manifest: Manifest, against: Against) -> list[Problem]:
    """Return the problems; what a rule says of a place replaces what the schema says of it."""
    rules = [
        *rules_names.check(manifest),
        *rules_cluster.check(manifest),
        *rules_pods.check(manifest, against.ray),
        *rules_job.check(manifest, against.parse),
        *rules_service.check(manifest),
    ]
    shape = check_schema(manifest, against.schemas) if against.schemas else check_fields(manifest)
    said = {problem.place for problem in rules if problem.refused}
    return [*(problem for problem in shape if problem.place not in said), *rules]
