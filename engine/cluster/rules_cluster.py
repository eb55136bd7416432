"""Rules of a cluster that no schema says: its groups, the autoscaler, the head's state. RayJob and RayService hold one, too."""

import re
from collections import Counter
from collections.abc import Iterator

from engine.cluster.manifest import Manifest, Node, Problem, containers, variables

IN_START = ("num-cpus", "num-gpus", "memory", "resources")
FT = "ray.io/ft-enabled"
NAMESPACE = "ray.io/external-storage-namespace"
AUTOSCALER_V2 = "RAY_enable_autoscaler_v2"
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
TOKENS_SINCE = (2, 52)


def check(manifest: Manifest) -> Iterator[Problem]:
    """Yield what is wrong in the description of the cluster."""
    if not manifest.cluster:
        return
    yield from _groups(manifest)
    yield from _replicas(manifest)
    yield from _resources_twice(manifest)
    yield from _labels(manifest)
    yield from _autoscaler(manifest)
    yield from _head_state(manifest)
    yield from _redis(manifest)
    yield from _gates(manifest)
    yield from _head_works(manifest)


def name_of(group: Node) -> str:
    """Return the name of a group."""
    return group["groupName"].text or "head"


def is_scaled(manifest: Manifest) -> bool:
    """Return whether Ray's autoscaler runs."""
    return manifest.cluster["enableInTreeAutoscaling"].value is True


def is_scaled_by_v2(manifest: Manifest) -> bool:
    """Return whether the autoscaler is version 2."""
    switch = variables(manifest.head).get(AUTOSCALER_V2)
    named = manifest.cluster["autoscalerOptions"]["version"].text == "v2"
    return is_scaled(manifest) and (named or bool(switch and switch["value"].text in ("1", "true")))


def _groups(manifest: Manifest) -> Iterator[Problem]:
    for group in manifest.groups:
        if not containers(group):
            where = group["template"]["spec"]["containers"]
            yield manifest.problem(where, "the group has no container.", "Add one with `name` and `image`; the first runs Ray.")
    names = Counter(name_of(group) for group in manifest.workers)
    for group in manifest.workers:
        if names[name_of(group)] > 1:
            mend = "Give each worker group a name of its own."
            yield manifest.problem(group["groupName"], f"{name_of(group)!r} names {names[name_of(group)]} groups.", mend)


def _replicas(manifest: Manifest) -> Iterator[Problem]:
    for group in manifest.workers:
        least, now, most = (group[key].number for key in ("minReplicas", "replicas", "maxReplicas"))
        if least is not None and most is not None and least > most:
            yield manifest.problem(
                group["minReplicas"], f"{least:g} is more than maxReplicas, {most:g}.", "Lower it, or raise maxReplicas."
            )
        elif now is not None and ((least is not None and now < least) or (most is not None and now > most)):
            found = f"{now:g} is not between minReplicas and maxReplicas: the operator silently takes the nearer of the two."
            yield manifest.problem(group["replicas"], found, "Let minReplicas <= replicas <= maxReplicas.")


def _resources_twice(manifest: Manifest) -> Iterator[Problem]:
    for group in manifest.groups:
        given = [key for key in IN_START if group["rayStartParams"][key]]
        if given and group["resources"].fields:
            found = f"the group has `resources` and rayStartParams.{given[0]}."
            yield manifest.problem(group["resources"], found, f"Keep one: remove {', '.join(given)} from rayStartParams.")


def _labels(manifest: Manifest) -> Iterator[Problem]:
    for group in manifest.groups:
        if group["rayStartParams"]["labels"]:
            mend = "Write them into `labels` of the group."
            yield manifest.problem(group["rayStartParams"]["labels"], "labels are not taken from here.", mend)
        for key, label in group["labels"].fields.items():
            if not LABEL.fullmatch(label.text) or not LABEL.fullmatch(key.rpartition("/")[2]):
                mend = "Use letters, digits, '-', '_' and '.', at most 63, beginning and ending with a letter or digit."
                yield manifest.problem(label, f"{key}={label.text} is no label of Kubernetes.", mend)


def _autoscaler(manifest: Manifest) -> Iterator[Problem]:
    options, switch = manifest.cluster["autoscalerOptions"], variables(manifest.head).get(AUTOSCALER_V2)
    if switch and not is_scaled(manifest) and switch["value"].text in ("1", "true"):
        mend = "Set enableInTreeAutoscaling: true, or remove the variable."
        yield manifest.problem(switch, f"{AUTOSCALER_V2} is set, and the cluster has no autoscaler.", mend)
    if switch and is_scaled(manifest) and options["version"]:
        found = f"{AUTOSCALER_V2} and autoscalerOptions.version are both set."
        yield manifest.problem(switch, found, "Remove the variable.")
    if options and not is_scaled(manifest):
        found = "these options are not used, as enableInTreeAutoscaling is not true."
        yield manifest.problem(options, found, "Set enableInTreeAutoscaling: true, or remove them.", refused=False)
    for group in manifest.workers:
        if is_scaled(manifest) and group["suspend"].value is True:
            mend = "Remove it, or set enableInTreeAutoscaling: false."
            yield manifest.problem(group["suspend"], "a worker group cannot be suspended under the autoscaler.", mend)
        if group["idleTimeoutSeconds"] and not is_scaled_by_v2(manifest):
            mend = "Set enableInTreeAutoscaling: true and autoscalerOptions.version: v2."
            yield manifest.problem(group["idleTimeoutSeconds"], "only version 2 of the autoscaler reads it.", mend)
    for group in manifest.groups:
        policy = group["template"]["spec"]["restartPolicy"]
        if is_scaled_by_v2(manifest) and policy and policy.text != "Never":
            found = f"found {policy.text}; version 2 of the autoscaler replaces pods itself."
            yield manifest.problem(policy, found, "Write Never, or remove it.")


def _head_state(manifest: Manifest) -> Iterator[Problem]:
    """Rules of GCS fault tolerance."""
    options, start, env = manifest.cluster["gcsFaultToleranceOptions"], manifest.head["rayStartParams"], variables(manifest.head)
    annotation = manifest.annotations[FT]
    address = env.get("RAY_REDIS_ADDRESS")
    if annotation and options:
        mend = f"Remove the annotation {FT}."
        yield manifest.problem(annotation, "gcsFaultToleranceOptions says it, too; the operator refuses both.", mend)
    if address and not options and annotation.text != "true":
        found = "RAY_REDIS_ADDRESS turns on fault tolerance, which the operator does not know of."
        yield manifest.problem(address, found, "Write the address into gcsFaultToleranceOptions.redisAddress.")
    if options:
        taken = {"redisPassword": start["redis-password"] or env.get("REDIS_PASSWORD"), "redisAddress": address}
        taken["externalStorageNamespace"] = manifest.annotations[NAMESPACE]
        for key, node in taken.items():
            if node:
                mend = f"Move it to gcsFaultToleranceOptions.{key}."
                yield manifest.problem(node, "is refused beside gcsFaultToleranceOptions.", mend)
    if user := start["redis-username"] or env.get("REDIS_USERNAME"):
        mend = "Move it to gcsFaultToleranceOptions.redisUsername."
        yield manifest.problem(user, "a name of a Redis user is not taken from here.", mend)


def _redis(manifest: Manifest) -> Iterator[Problem]:
    options = manifest.cluster["gcsFaultToleranceOptions"]
    if manifest.kind == "RayJob" and options:
        found = (
            "fault tolerance of the head is for services: a job's actors and results die with the head all the same (ray 52480)."
        )
        yield manifest.problem(options, found, "Remove it: Rayleigh resumes from its run folder.", refused=False)
    if options and not options["redisAddress"] and options["backend"].text in ("", "redis"):
        found = "the backend is Redis, and its address is missing."
        yield manifest.problem(options["redisAddress"], found, "Write redisAddress: host:port.")


def _gates(manifest: Manifest) -> Iterator[Problem]:
    cluster = manifest.cluster
    backend, encrypted = cluster["gcsFaultToleranceOptions"]["backend"], cluster["tlsOptions"]["enabled"]
    for what, node, used in (("RocksDB", backend, backend.text == "rocksdb"), ("mTLS", encrypted, encrypted.value is True)):
        if used:
            found = f"{what} needs a feature gate of the operator that is off by default."
            yield manifest.problem(node, found, "Remove it, or have the operator's gate opened first.", refused=False)
    version = cluster["rayVersion"]
    if cluster["authOptions"]["mode"].text == "token" and _version(version.text) < TOKENS_SINCE:
        found = f"tokens need rayVersion 2.52.0 or later; found {version.text or 'none'}."
        yield manifest.problem(version, found, "Write the version of Ray in the image.")


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _head_works(manifest: Manifest) -> Iterator[Problem]:
    grows = any((group["maxReplicas"].number or 0) > 0 for group in manifest.workers)
    given = manifest.head["rayStartParams"]["num-cpus"] or manifest.head["resources"]["CPU"]
    if grows and containers(manifest.head) and str(given.value) != "0":
        found = "Ray places tasks on the head, where they can starve or kill the process that all others need."
        mend = 'Write num-cpus: "0".'
        yield manifest.problem(manifest.head["rayStartParams"]["num-cpus"], found, mend, refused=False)
