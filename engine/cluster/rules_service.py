"""Rules of a RayService that no schema says: its Serve applications, its upgrades and its health."""

import re
from collections import Counter
from collections.abc import Iterator

import yaml

from engine.cluster.manifest import Manifest, Node, Problem, containers
from engine.cluster.rules_cluster import is_scaled

TIMEOUT = "ray.io/initializing-timeout"
DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|[0-9]+")
UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")


def check(manifest: Manifest) -> Iterator[Problem]:
    """Yield what is wrong in a RayService."""
    if manifest.kind != "RayService":
        return
    yield from _applications(manifest)
    yield from _upgrade(manifest)
    ports = [containers(manifest.head)[0]["ports"]] if containers(manifest.head) else []
    for node in (node for node in ports if node.items and "serve" not in [port["name"].text for port in node.items]):
        found = "names its ports without `serve`: the operator then adds none, and the service has no port of the applications."
        yield manifest.problem(node, found, "Add {containerPort: 8000, name: serve}, or name no ports.", refused=False)
    for key in ("serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"):
        if manifest.spec[key]:
            yield manifest.problem(manifest.spec[key], "is deprecated, and not read.", "Remove it.", refused=False)
    if manifest.head["headService"]["metadata"]["name"]:
        node = manifest.head["headService"]["metadata"]["name"]
        yield manifest.problem(node, "the operator names the head's service of a RayService itself.", "Remove it.")
    timeout = manifest.annotations[TIMEOUT]
    if timeout and not (DURATION.fullmatch(timeout.text) and re.search("[1-9]", timeout.text)):
        yield manifest.problem(timeout, f"found {timeout.value!r}.", 'Write a time such as "30m", or seconds in quotes.')


def _applications(manifest: Manifest) -> Iterator[Problem]:
    node = manifest.spec["serveConfigV2"]
    if isinstance(node.value, dict):
        yield manifest.problem(node, "found a mapping, expected a string that holds YAML.", "Write `serveConfigV2: |`, and indent.")
        return
    if not node.text.strip():
        yield manifest.problem(node, "is missing: the service would serve nothing.", "Name its applications.", refused=False)
        return
    try:
        loaded = Node(yaml.safe_load(node.text), node.path)
    except yaml.YAMLError as error:
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        yield manifest.problem(node, f"is not YAML: {what}.", "Mend its indentation.")
        return
    applications = loaded["applications"].items
    if not applications:
        mend = "Write applications: [{name: ..., import_path: module:app}]."
        yield manifest.problem(node, "names no applications.", mend)
    for key, default in (("name", "default"), ("route_prefix", "/")):
        counts = Counter(one[key].text or default for one in applications)
        for value in (value for value, count in counts.items() if count > 1):
            yield manifest.problem(node, f"{counts[value]} applications have {key} {value}.", "Let them differ.")
    for one in applications:
        path = one["import_path"]
        if not re.fullmatch(r"[\w.]+[:.][\w.]+", path.text):
            found = f"found {path.value!r}; Serve imports `module:variable`."
            yield manifest.problem(path, found, "Name the module and its application or builder.")


def _upgrade(manifest: Manifest) -> Iterator[Problem]:
    strategy = manifest.spec["upgradeStrategy"]
    kind, options = strategy["type"], strategy["clusterUpgradeOptions"]
    if kind and kind.text not in UPGRADES:
        yield manifest.problem(kind, f"found {kind.value!r}.", f"Write one of {', '.join(UPGRADES)}.")
    if kind.text != "NewClusterWithIncrementalUpgrade":
        return
    if not is_scaled(manifest):
        yield manifest.problem(kind, "an incremental upgrade needs the autoscaler.", "Set enableInTreeAutoscaling: true.")
    for key in ("gatewayClassName", "stepSizePercent", "intervalSeconds"):
        if not options[key]:
            yield manifest.problem(options[key], "an incremental upgrade needs it.", "Write it.")
