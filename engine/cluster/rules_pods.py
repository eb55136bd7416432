"""Rules of the pods: images of one version of Ray, and resources that Kubernetes and Ray count alike."""

import re
from collections.abc import Iterator
from decimal import Decimal

from engine.cluster.manifest import Manifest, Node, Problem, containers
from engine.cluster.quantity import parse
from engine.cluster.rules_cluster import name_of

VERSION = re.compile(r"\d+\.\d+\.\d+")
DEVICES = re.compile(r"(nvidia|amd|intel|google|aws\.amazon|habana|huawei)[^/]*/")
HEAD_GIB = 2  # below, the head's process is killed for memory with its first hundred actors


def check(manifest: Manifest, ray: str | None) -> Iterator[Problem]:
    """Yield what is wrong in the pods; `ray` is the version of Ray of the lock."""
    yield from _images(manifest)
    yield from _lock(manifest, ray)
    for group in manifest.groups:
        for container in containers(group):
            yield from _amounts(manifest, container)
            yield from _memory(manifest, container)
        yield from _started(manifest, group)


def tag(image: str) -> str:
    """Return the tag of an image, "" without one; a digest is none."""
    last = image.partition("@")[0].rpartition("/")[2]
    return last.partition(":")[2]


def _version_of(image: Node) -> str:
    match = VERSION.match(tag(image.text))
    return match[0] if match else ""


def _images(manifest: Manifest) -> Iterator[Problem]:
    """The head, the workers and `rayVersion` are one version: Ray refuses to connect two."""
    declared, found = manifest.cluster["rayVersion"], ""
    for group in manifest.groups:
        for image in (container["image"] for container in containers(group)[:1]):
            if not image:
                yield manifest.problem(image, "the container has no image.", "Name the image of the cluster.")
                continue
            if tag(image.text) in ("", "latest", "nightly") and "@" not in image.text:
                said = "has no fixed tag, so pods that start later may run another version."
                yield manifest.problem(image, f"{image.text} {said}", "Write a tag with Ray's version.", refused=False)
            version = _version_of(image)
            if version and declared.text and version != declared.text:
                mend = f'Let both be one: rayVersion: "{version}", or the tag {declared.text}.'
                yield manifest.problem(image, f"the image has Ray {version}, rayVersion is {declared.text}.", mend)
            elif version and found and version != found:
                mend = "Use one image for head and workers."
                yield manifest.problem(image, f"{name_of(group)} has Ray {version}, the head {found}: they cannot connect.", mend)
            found = found or version


def _lock(manifest: Manifest, ray: str | None) -> Iterator[Problem]:
    declared = manifest.cluster["rayVersion"]
    if ray and declared.text and declared.text != ray:
        found = f"found {declared.text}; Rayleigh is locked to Ray {ray}, and a driver of another version cannot connect."
        yield manifest.problem(declared, found, f'Write "{ray}", and build the image from cluster/Dockerfile.', refused=False)


def _amounts(manifest: Manifest, container: Node) -> Iterator[Problem]:
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    for name in dict.fromkeys([*requests.fields, *limits.fields]):
        asked, most = parse(requests[name].value), parse(limits[name].value)
        node = limits[name] if limits[name] else requests[name]
        for part in (requests[name], limits[name]):
            if part and parse(part.value) is None:
                yield manifest.problem(part, f"{part.value!r} is no quantity.", "Write it as 500m, 4 or 16Gi.")
        if asked is not None and most is not None and asked > most:
            yield manifest.problem(
                requests[name], f"the request, {requests[name].value}, is more than the limit, {most}.", "Lower it."
            )
        elif DEVICES.match(name):
            yield from _devices(manifest, node, asked, most)


def _devices(manifest: Manifest, node: Node, asked: Decimal | None, most: Decimal | None) -> Iterator[Problem]:
    if most is None or (asked is not None and asked != most):
        found = f"Kubernetes gives devices only with a limit, and a request that equals it; found request {asked}, limit {most}."
        yield manifest.problem(node, found, "Write the limit, and the same request or none.")
    elif most % 1:
        mend = "Write a whole number; Ray shares a GPU by `gpus` of the pool in the profile."
        yield manifest.problem(node, f"found {most}; Kubernetes gives whole devices.", mend)


def _memory(manifest: Manifest, container: Node) -> Iterator[Problem]:
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    for name in ("cpu", "memory"):
        asked, most = parse(requests[name].value), parse(limits[name].value)
        if most is not None and asked is not None and asked < most:
            found = f"the request is {requests[name].value}, the limit {limits[name].value}; Ray counts by the limit."
            mend = f"Let both be {limits[name].value}: /dev/shm and the object store are sized by it (kuberay 201)."
            yield manifest.problem(requests[name], found, mend, refused=False)


def _started(manifest: Manifest, group: Node) -> Iterator[Problem]:
    """Parameters of `ray start` against the pod."""
    start, found = group["rayStartParams"], containers(group)
    limit = parse(found[0]["resources"]["limits"]["memory"].value) if found else None
    store = parse(start["object-store-memory"].value)
    if store is not None and limit is not None and store >= limit:
        mend = "Give the object store at most a third of the memory, in bytes."
        yield manifest.problem(start["object-store-memory"], f"is {store} bytes, and the pod has {limit:g}.", mend)
    cores = parse(start["num-cpus"].value)
    if start["num-cpus"] and (cores is None or cores % 1):
        yield manifest.problem(start["num-cpus"], f"found {start['num-cpus'].value!r}.", 'Write a whole number in quotes: "4".')
    least = HEAD_GIB * 2**30
    if not group["groupName"] and limit is not None and limit < least:
        said = f"the head has {found[0]['resources']['limits']['memory'].value} of memory."
        yield manifest.problem(found[0]["resources"]["limits"]["memory"], said, f"Give it {HEAD_GIB}Gi or more.", refused=False)
