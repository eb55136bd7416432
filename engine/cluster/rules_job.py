"""Rules of a RayJob that no schema says: how it is submitted, retried, suspended and deleted, and its entrypoint."""

import shlex
from collections.abc import Callable, Iterator

import yaml

from engine.cluster.manifest import Manifest, Node, Problem, containers
from engine.cluster.rules_cluster import is_scaled

MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
ORDER = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
SELECTED = "ray.io/cluster"
DELETES_CLUSTER = ("DeleteWorkers", "DeleteCluster")

Parse = Callable[[list[str]], str | None]
"""Takes the words of a command line after `rayleigh`; returns what is wrong, or None."""


def check(manifest: Manifest, parse: Parse) -> Iterator[Problem]:
    """Yield what is wrong in a RayJob; `parse` reads command lines of Rayleigh."""
    if manifest.kind != "RayJob":
        return
    yield from _cluster(manifest)
    yield from _mode(manifest)
    yield from _end(manifest)
    yield from _times(manifest)
    yield from _deletion(manifest)
    yield from _environment(manifest)
    yield from _entrypoint(manifest, parse)


def _cluster(manifest: Manifest) -> Iterator[Problem]:
    spec, selector = manifest.spec, manifest.spec["clusterSelector"]
    if not spec["rayClusterSpec"] and not selector.fields:
        mend = "Write rayClusterSpec, or clusterSelector: {ray.io/cluster: NAME}."
        yield manifest.problem(spec["rayClusterSpec"], "the job has no cluster.", mend)
    if not selector.fields:
        return
    if not selector[SELECTED].text:
        yield manifest.problem(selector, f"names no cluster: the operator reads only {SELECTED}.", f"Write {SELECTED}: NAME.")
    if spec["rayClusterSpec"]:
        yield manifest.problem(selector, "the job brings a cluster of its own, too, which is not used.", "Keep one of the two.")
    if spec["suspend"].value is True:
        mend = "Remove suspend, or write rayClusterSpec."
        yield manifest.problem(spec["suspend"], "a job on a cluster that is there already cannot be suspended.", mend)
    if (spec["backoffLimit"].number or 0) > 0:
        found = "a retry is a new cluster, and this job uses one that is there already."
        yield manifest.problem(spec["backoffLimit"], found, "Remove it, or write rayClusterSpec.")


def _mode(manifest: Manifest) -> Iterator[Problem]:
    spec, mode = manifest.spec, manifest.spec["submissionMode"]
    if mode and mode.text not in MODES:
        yield manifest.problem(
            mode, f"found {mode.value!r}: the job would never be submitted.", f"Write one of {', '.join(MODES)}."
        )
    if mode.text == "InteractiveMode" and (spec["backoffLimit"].number or 0) > 0:
        found = "a retried job keeps the id that a person has submitted (kuberay 3525)."
        yield manifest.problem(spec["backoffLimit"], found, "Remove it, or use K8sJobMode.")
    if mode.text in ("HTTPMode", "InteractiveMode") and spec["submitterPodTemplate"]:
        found = f"{mode.text} has no submitter's pod."
        yield manifest.problem(spec["submitterPodTemplate"], found, "Remove it, or use K8sJobMode.", refused=False)
    if mode.text == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if spec[key]:
                yield manifest.problem(spec[key], "SidecarMode does not take it.", "Remove it, or use K8sJobMode.")
        policy = manifest.head["template"]["spec"]["restartPolicy"]
        if policy and policy.text != "Never":
            yield manifest.problem(policy, f"found {policy.text} with SidecarMode.", "Write Never, or remove it.")


def _end(manifest: Manifest) -> Iterator[Problem]:
    spec, shut = manifest.spec, manifest.spec["shutdownAfterJobFinishes"].value is True
    if spec["suspend"].value is True and not shut:
        found = "a job that is suspended must delete its cluster (kuberay 3994)."
        yield manifest.problem(spec["suspend"], found, "Set shutdownAfterJobFinishes: true.")
    if (spec["ttlSecondsAfterFinished"].number or 0) > 0 and not shut:
        found = "it counts only with shutdownAfterJobFinishes: true; the cluster and its GPUs would stay."
        yield manifest.problem(spec["ttlSecondsAfterFinished"], found, "Set shutdownAfterJobFinishes: true.")
    own = spec["rayClusterSpec"] and not spec["clusterSelector"].fields
    if own and not shut and not spec["deletionStrategy"]:
        found = "the cluster and its GPUs stay after the job."
        yield manifest.problem(spec["shutdownAfterJobFinishes"], found, "Set it to true.", refused=False)


def _times(manifest: Manifest) -> Iterator[Problem]:
    spec = manifest.spec
    for key, least in (
        ("activeDeadlineSeconds", 1),
        ("ttlSecondsAfterFinished", 0),
        ("backoffLimit", 0),
        ("preRunningDeadlineSeconds", 1),
    ):
        number = spec[key].number
        if number is not None and number < least:
            yield manifest.problem(spec[key], f"found {number:g}.", f"Write {least} or more, or remove it.")
    start, whole = spec["preRunningDeadlineSeconds"].number, spec["activeDeadlineSeconds"].number
    if start is not None and whole is not None and start >= whole > 0:
        found = f"{start:g} s to start are not less than activeDeadlineSeconds, {whole:g} s."
        yield manifest.problem(spec["preRunningDeadlineSeconds"], found, "Lower it, or raise activeDeadlineSeconds.")


def _deletion(manifest: Manifest) -> Iterator[Problem]:
    strategy = manifest.spec["deletionStrategy"]
    if not strategy:
        return
    rules, legacy = strategy["deletionRules"], [strategy[key] for key in ("onSuccess", "onFailure") if strategy[key]]
    for node in legacy:
        found = "onSuccess and onFailure are deprecated, and deletionRules are refused beside them."
        mend = "Write deletionRules: [{policy: ..., condition: {jobStatus: ..., ttlSeconds: ...}}]."
        yield manifest.problem(node, found, mend, refused=bool(rules))
    if not rules.items and len(legacy) != 2:
        yield manifest.problem(strategy, "it needs deletionRules.", "Write them, or use shutdownAfterJobFinishes: true alone.")
    if rules.items and manifest.spec["shutdownAfterJobFinishes"].value is True:
        yield manifest.problem(rules, "shutdownAfterJobFinishes: true excludes deletionRules.", "Keep one of the two.")
    policies = [*(node["policy"] for node in legacy), *(rule["policy"] for rule in rules.items)]
    for policy in policies:
        if policy.text == "DeleteWorkers" and is_scaled(manifest):
            found = "the autoscaler would start the deleted workers again."
            yield manifest.problem(policy, found, "Write DeleteCluster, or set enableInTreeAutoscaling: false.")
        if policy.text in DELETES_CLUSTER and manifest.spec["clusterSelector"].fields:
            yield manifest.problem(policy, "the cluster is not this job's own.", "Write DeleteSelf or DeleteNone.")
    yield from _order(manifest, rules.items)


def _order(manifest: Manifest, rules: list[Node]) -> Iterator[Problem]:
    """Workers end before the cluster, and the cluster before the job's object."""
    times: dict[tuple[str, str], float] = {}
    for rule in rules:
        condition = rule["condition"]
        states = [condition[key] for key in ("jobStatus", "jobDeploymentStatus") if condition[key]]
        if len(states) != 1:
            mend = "Write jobStatus: SUCCEEDED or FAILED, or jobDeploymentStatus: Failed."
            yield manifest.problem(condition, f"names {len(states)} states, expected one.", mend)
            continue
        state, policy = states[0].text, rule["policy"].text
        if (state, policy) in times:
            yield manifest.problem(rule, f"is the second rule for {policy} after {state}.", "Keep one.")
        seconds = times[state, policy] = condition["ttlSeconds"].number or 0
        for other in ORDER[: ORDER.index(policy)] if policy in ORDER else ():
            if times.get((state, other), 0) > seconds:
                found = f"{policy} comes {seconds:g} s after {state}, {other} only {times[state, other]:g} s after it."
                yield manifest.problem(condition["ttlSeconds"], found, "Let DeleteWorkers <= DeleteCluster <= DeleteSelf.")


def _environment(manifest: Manifest) -> Iterator[Problem]:
    node = manifest.spec["runtimeEnvYAML"]
    if not node.text:
        return
    try:
        loaded = yaml.safe_load(node.text)
    except yaml.YAMLError as error:
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        yield manifest.problem(node, f"is not YAML: {what}.", "Mend its indentation; the block begins with `|`.")
        return
    if loaded is not None and not isinstance(loaded, dict):
        yield manifest.problem(node, f"holds a {type(loaded).__name__}.", "Write a mapping such as env_vars: {NAME: value}.")
        return
    for key in ("pip", "uv", "conda"):
        if loaded and key in loaded:
            found = f"{key} installs packages on every node at each start, and may move the pins."
            yield manifest.problem(node, found, "Build them into the image.", refused=False)
    folder = str((loaded or {}).get("working_dir", ""))
    if folder and "://" not in folder:
        found = f"working_dir is {folder!r}; a pod has no folder of yours, and Ray takes only an archive by URL here."
        yield manifest.problem(node, found, "Write the URL of a .zip, or put the files into the image.", refused=False)


def _entrypoint(manifest: Manifest, parse: Parse) -> Iterator[Problem]:
    node, mode = manifest.spec["entrypoint"], manifest.spec["submissionMode"]
    if not node.text.strip():
        submitter = containers(Node({"template": manifest.spec["submitterPodTemplate"].value}))
        if mode.text != "InteractiveMode" and not any(one["command"] for one in submitter[:1]):  # a submitter may have it instead
            yield manifest.problem(node, "is missing.", "Write the command, such as rayleigh run CONTRACT RUN --profile cluster.")
        return
    try:
        words = shlex.split(node.text)
    except ValueError as error:
        yield manifest.problem(node, f"no shell can read it: {error}.", "Close the quote.")
        return
    if words and words[0] == "rayleigh" and (wrong := parse(words[1:])):
        yield manifest.problem(node, f"rayleigh refuses it: {wrong}", "See rayleigh --help.")
