"""Rules of an object's metadata: version of the API, names, and Kueue's queue."""

import re
from collections.abc import Iterator

from engine.cluster.manifest import Manifest, Problem
from engine.cluster.rules_cluster import is_scaled

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST = {"RayCluster": 53, "RayJob": 47, "RayService": 47}  # the operator makes names of pods and services of them
QUEUE = "kueue.x-k8s.io/queue-name"
MOST_GROUPS = 7  # of workers: Kueue takes eight sets of pods, of which the head is one
VERSION = "ray.io/v1"


def check(manifest: Manifest) -> Iterator[Problem]:
    """Yield what is wrong in the metadata."""
    version = manifest.root["apiVersion"]
    if version.text != VERSION:
        yield manifest.problem(version, f"found {version.value!r}; the operator serves {VERSION}.", f"Write apiVersion: {VERSION}.")
    yield from _name(manifest)
    yield from _kueue(manifest)


def _name(manifest: Manifest) -> Iterator[Problem]:
    metadata = manifest.root["metadata"]
    name, most = metadata["name"], LONGEST[manifest.kind]
    if not name:
        if not metadata["generateName"]:
            yield manifest.problem(name, "is missing.", "Name the object.")
        return
    if len(name.text) > most:
        mend = f"Shorten it to {most}: the operator appends to it."
        yield manifest.problem(name, f"has {len(name.text)} characters, and a {manifest.kind} may have {most}.", mend)
    if not DNS_1035.fullmatch(name.text):
        mend = "Use lower case letters, digits and '-'; begin with a letter, and do not end with '-' (DNS-1035)."
        yield manifest.problem(name, f"found {name.value!r}, which is no name of a service.", mend)


def _kueue(manifest: Manifest) -> Iterator[Problem]:
    queue = manifest.labels[QUEUE]
    if not queue:
        if manifest.kind == "RayJob" and manifest.cluster["suspend"].value is True:
            mend = f"Suspend the job, not its cluster; with Kueue write the label {QUEUE}."
            yield manifest.problem(manifest.cluster["suspend"], "a job's cluster that is suspended never starts.", mend)
        return
    if manifest.kind == "RayService":
        found = "Kueue suspends the service's cluster, the operator makes another, and so on (kuberay 4686)."
        yield manifest.problem(
            queue, found, "Remove the label; reserve the nodes of a service by a quota or by priority.", refused=False
        )
        return
    if is_scaled(manifest):
        found = "Kueue admits a fixed number of pods, and the autoscaler adds others that it has not admitted."
        mend = "Set it to false, and `replicas` to what the run needs."
        yield manifest.problem(manifest.cluster["enableInTreeAutoscaling"], found, mend)
    if len(manifest.workers) > MOST_GROUPS:
        found = f"{len(manifest.workers)} groups; Kueue takes at most {MOST_GROUPS}."
        yield manifest.problem(manifest.cluster["workerGroupSpecs"], found, "Merge groups of equal pods.")
    if manifest.kind == "RayJob" and manifest.spec["clusterSelector"]:
        found = "Kueue queues jobs that bring their cluster."
        yield manifest.problem(manifest.spec["clusterSelector"], found, "Write rayClusterSpec instead, or remove the label.")
    if manifest.kind == "RayJob" and manifest.spec["shutdownAfterJobFinishes"].value is not True:
        found = "the cluster of a queued job must end with it, or it holds the quota forever."
        yield manifest.problem(manifest.spec["shutdownAfterJobFinishes"], found, "Set it to true.")
