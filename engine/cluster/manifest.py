"""A Kubernetes manifest as a tree that is read without surprises, and what is wrong in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

KINDS = {"RayCluster": "", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
"""Kind -> key below `spec` where the cluster is described; "": `spec` itself."""


class Problem(NamedTuple):
    """Something that is wrong in a manifest."""

    place: str
    """File, kind, name and path of the field."""
    found: str
    """What is there, and why it is wrong."""
    mend: str
    """What to write instead."""
    refused: bool = True
    """Whether the API server, the operator or Ray refuses it; else it is accepted, and fails or costs later."""

    def __str__(self) -> str:
        return f"{self.place}: {self.found} {self.mend}"


@dataclass(frozen=True)
class Node:
    """A value in the tree and its path. A missing key, or one below a value of another type, is a node without a value."""

    value: Any
    path: str = ""

    def __getitem__(self, key: str) -> "Node":
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return Node(value, f"{self.path}.{key}" if self.path else key)

    def __bool__(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    @property
    def text(self) -> str:
        """The value if it is a string, else ""."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def number(self) -> float | None:
        """The value if it is a number."""
        return self.value if isinstance(self.value, int | float) and not isinstance(self.value, bool) else None

    @property
    def items(self) -> list["Node"]:
        """The items of a list."""
        return [Node(item, f"{self.path}[{at}]") for at, item in enumerate(self.value)] if isinstance(self.value, list) else []

    @property
    def fields(self) -> dict[str, "Node"]:
        """The values of a mapping by their keys."""
        return {key: self[key] for key in self.value if isinstance(key, str)} if isinstance(self.value, dict) else {}


@dataclass(frozen=True)
class Manifest:
    """One document of a YAML file."""

    file: str
    root: Node

    @property
    def kind(self) -> str:
        return self.root["kind"].text

    @property
    def name(self) -> str:
        return self.root["metadata"]["name"].text or self.root["metadata"]["generateName"].text

    @property
    def spec(self) -> Node:
        return self.root["spec"]

    @property
    def annotations(self) -> Node:
        return self.root["metadata"]["annotations"]

    @property
    def labels(self) -> Node:
        return self.root["metadata"]["labels"]

    @property
    def cluster(self) -> Node:
        """The description of the cluster that the manifest makes."""
        key = KINDS[self.kind]
        return self.spec[key] if key else self.spec

    @property
    def head(self) -> Node:
        return self.cluster["headGroupSpec"]

    @property
    def workers(self) -> list[Node]:
        return self.cluster["workerGroupSpecs"].items

    @property
    def groups(self) -> list[Node]:
        """The head's group and the worker groups."""
        return [*([self.head] if self.head else []), *self.workers]

    def problem(self, node: Node, found: str, mend: str, *, refused: bool = True) -> Problem:
        """Return what is wrong at `node`."""
        return Problem(f"{self.file}: {self.kind} {self.name or 'without a name'}: {node.path}", found, mend, refused)


def containers(group: Node) -> list[Node]:
    """Return the containers of the pods of a group; the first runs Ray."""
    return group["template"]["spec"]["containers"].items


def variables(group: Node) -> dict[str, Node]:
    """Return the environment variables of the container that runs Ray, by name."""
    found = containers(group)
    return {item["name"].text: item for item in found[0]["env"].items} if found else {}


def read(text: str, file: str) -> tuple[list[Manifest], list[Problem]]:
    """Return the documents of a YAML file that are mappings, and what makes the others unreadable."""
    try:
        loaded = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        return [], [Problem(f"{file}:{line.strip() or 'document'}", f"is not YAML: {what}.", "Mend the indentation or the quotes.")]
    kept = [Manifest(file, Node(document)) for document in loaded if isinstance(document, dict)]
    strange = [document for document in loaded if document is not None and not isinstance(document, dict)]
    problems = [
        Problem(file, f"holds a {type(one).__name__}.", "Write a mapping with apiVersion, kind, metadata and spec.")
        for one in strange
    ]
    return kept, problems


def walk(node: Node) -> Iterator[Node]:
    """Yield `node` and all nodes below it."""
    yield node
    for child in [*node.fields.values(), *node.items]:
        yield from walk(child)
