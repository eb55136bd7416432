"""Checks of a file for `ray up`: Ray's own schema, closed as it is, and rules that it does not say."""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from engine.cluster.manifest import Node, Problem
from engine.cluster.rules_pods import VERSION, tag

REPLACED = {"head_node": "available_node_types", "worker_nodes": "available_node_types", "autoscaling_mode": "upscaling_speed"}
REPLACED |= {"min_workers": "min_workers of each node type", "initial_workers": "min_workers of each node type"}


def is_launcher(document: object) -> bool:
    """Return whether a document is one for `ray up`."""
    return isinstance(document, dict) and "cluster_name" in document and "provider" in document


def check_launcher(
    document: Mapping[str, Any], file: str, *, schema: Mapping[str, Any] | None, ray: str | None
) -> Iterator[Problem]:
    """Yield what is wrong in a file for `ray up`; `schema` is Ray's own, `ray` the version of the lock."""
    root = Node(document)
    if schema:
        for error in Draft7Validator(dict(schema)).iter_errors(document):
            cause = best_match([error]) or error
            place = ".".join(map(str, cause.absolute_path)) or "(file)"
            yield Problem(
                f"{file}: {place}", f"Ray's schema refuses it: {cause.message[:200]}.", "See ray/autoscaler/ray-schema.json."
            )
    for key, better in REPLACED.items():
        if root[key]:
            yield Problem(f"{file}: {key}", "is deprecated.", f"Write {better}.", refused=False)
    yield from _types(root, file)
    yield from _image(root, file, ray)


def _types(root: Node, file: str) -> Iterator[Problem]:
    types, head = root["available_node_types"].fields, root["head_node_type"].text
    if types and head not in types:
        found = f"found {head!r}, which is no key of available_node_types."
        yield Problem(f"{file}: head_node_type", found, f"Write one of {', '.join(types)}.")
    for name, node in types.items():
        least, most = node["min_workers"].number or 0, node["max_workers"].number
        if most is not None and least > most:
            yield Problem(f"{file}: {node.path}.min_workers", f"{least:g} is more than max_workers, {most:g}.", "Lower it.")
        if name == head and node["resources"]["CPU"].number != 0:
            found = "Ray places tasks on the head, where they can starve the process that all others need."
            yield Problem(f"{file}: {node.path}.resources", found, "Write resources: {CPU: 0}.", refused=False)
    whole = root["max_workers"].number
    wanted = sum(node["max_workers"].number or 0 for name, node in types.items() if name != head)
    if whole is not None and wanted > whole:
        found = f"{whole:g} is less than the max_workers of all types, {wanted:g}: the last never start."
        yield Problem(f"{file}: max_workers", found, f"Write {wanted:g}.", refused=False)


def _image(root: Node, file: str, ray: str | None) -> Iterator[Problem]:
    image = root["docker"]["image"]
    version = VERSION.match(tag(image.text))
    if ray and version and version[0] != ray:
        found = f"the image has Ray {version[0]}; Rayleigh is locked to {ray}."
        yield Problem(f"{file}: docker.image", found, f"Write a tag that begins with {ray}.", refused=False)
