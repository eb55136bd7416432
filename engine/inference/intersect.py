"""Intersections of JSON schemas that apply to the same value: `allOf`, and keywords beside `anyOf`, `oneOf` and `$ref`.

Where two keywords cannot be merged, the second is dropped and named: the result accepts at least what both accept.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.contract.answer_schema import Schema, allowed_types, integer_bounds, resolve
from engine.contract.base import JsonSchema

DEFINITIONS = ("$defs", "definitions")
ANNOTATIONS = (
    "$anchor", "$comment", "$id", "$schema", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly",
)  # fmt: skip
BOUNDS: dict[str, Callable[[Any, Any], Any]] = {
    "exclusiveMaximum": min, "exclusiveMinimum": max, "maxItems": min, "maxLength": min, "maxProperties": min, "maximum": min,
    "minItems": max, "minLength": max, "minProperties": max, "minimum": max,
}  # fmt: skip


class Merger:
    """Merges schemas of one root."""

    def __init__(self, root: Schema, leave: Callable[[str, str], None]) -> None:
        """`leave(path, reason)` is called for each keyword that is dropped."""
        self.root, self.leave = root, leave
        self.open: frozenset[str] = frozenset()
        """References that are replaced by their targets around here: to replace one again would never end."""

    def matters(self, node: JsonSchema, key: str) -> bool:
        """Return whether a keyword beside `key` says more than `key` itself."""
        rest = {name: value for name, value in node.items() if name not in (*ANNOTATIONS, *DEFINITIONS, key)}
        branches = node[key] if isinstance(node[key], list) else []
        return bool(rest) and not (set(rest) == {"type"} and branches and all(_is_within(one, rest) for one in branches))

    def merge(self, first: Schema, second: Schema, path: str) -> Schema:
        """Return a schema of the values that fit both."""
        if not isinstance(first, dict) or not isinstance(second, dict):
            return (second if first else False) if isinstance(first, bool) else (first if second else False)
        if "$ref" in first and not set(second) - set(ANNOTATIONS):
            return {**second, **first}
        first, second = self.flat(first, path), self.flat(second, path)
        if not isinstance(first, dict) or not isinstance(second, dict):
            return self.merge(first, second, path)
        merged = dict(first)
        for key, value in second.items():
            if key not in merged:
                merged[key] = value
            elif merged[key] != value:
                merged[key] = self._both(key, merged[key], value, path)
        if merged.get("type") == []:
            return False
        return merged

    def flat(self, node: JsonSchema, path: str) -> Schema:
        """Return `node` with its `$ref` replaced by the target, and its `allOf` merged, both with what stands beside them."""
        flat: Schema = {key: value for key, value in node.items() if key != "allOf"}
        if "$ref" in node:
            flat = self._expanded(flat, path)
        for number, branch in enumerate(node.get("allOf", ())):
            flat = self.merge(flat, branch, f"{path}.allOf.{number}")
        return flat

    def _expanded(self, node: JsonSchema, path: str) -> Schema:
        reference = node["$ref"]
        if reference in self.open:
            self.leave(path, "the decoder holds its $ref alone")
            return {key: value for key, value in node.items() if key in (*ANNOTATIONS, *DEFINITIONS, "$ref")}
        self.open |= {reference}
        rest = {key: value for key, value in node.items() if key != "$ref"}
        target = resolve(self.root, reference)
        hidden = {key: value for key, value in target.items() if key not in ANNOTATIONS} if isinstance(target, dict) else target
        return self.merge(rest, hidden, path)

    def distributed(self, node: JsonSchema, key: str, path: str) -> JsonSchema:
        """Return `node` with what stands beside the list `key` merged into each of its branches."""
        kept = {name: value for name, value in node.items() if name in (*ANNOTATIONS, *DEFINITIONS)}
        rest = {name: value for name, value in node.items() if name != key and name not in kept}
        branches = [self.merge(rest, branch, f"{path}.{key}.{number}") for number, branch in enumerate(node[key])]
        return {**kept, key: [branch for branch in branches if branch is not False]}

    def _both(self, key: str, first: Any, second: Any, path: str) -> Any:
        if key in BOUNDS:
            return BOUNDS[key](first, second)
        if key == "type":
            return _common_types(first, second)
        if key == "required":
            return list(dict.fromkeys([*first, *second]))
        if key == "enum":
            return [value for value in first if value in second]
        if key in ("properties", "patternProperties", *DEFINITIONS):
            names = dict.fromkeys([*first, *second])
            return {name: self.merge(first.get(name, True), second.get(name, True), f"{path}.{key}.{name}") for name in names}
        if key in ("items", "additionalProperties", "contains") and not isinstance(first, list) and not isinstance(second, list):
            return self.merge(first, second, f"{path}.{key}")
        if key not in ANNOTATIONS:
            self.leave(f"{path}.{key}", "the decoder holds one of two")
        return first


def _common_types(first: Any, second: Any) -> Any:
    """Return the types that both allow; an integer is a number, too."""
    one, other = allowed_types({"type": first}), allowed_types({"type": second})
    common = [kind for kind in sorted(one | other) if _allows(one, kind) and _allows(other, kind)]
    return common[0] if len(common) == 1 else common


def _allows(kinds: frozenset[str], kind: str) -> bool:
    return kind in kinds or (kind == "integer" and "number" in kinds)


def _is_within(branch: Schema, rest: Mapping[str, Any]) -> bool:
    """Return whether the types of `branch` are among those of `rest`."""
    if not isinstance(branch, dict) or "type" not in branch:
        return False
    kinds = allowed_types(rest)
    return all(_allows(kinds, kind) for kind in allowed_types(branch))


def is_disjoint(branches: list[Schema]) -> bool:
    """Return whether no value fits two branches: each has types of its own, or requires a property with a constant of its own."""
    kinds = [kind for branch in branches for kind in _kinds(branch)]
    if len(kinds) == len(set(kinds)):
        return True
    tags = [_tags(branch) for branch in branches]
    shared = set(tags[0]).intersection(*tags)
    return any(len({tag[name] for tag in tags}) == len(tags) for name in shared)


def _tags(branch: Schema) -> dict[str, str]:
    """Return the required properties of an object that are constants, as JSON."""
    if not isinstance(branch, dict) or branch.get("type") != "object":
        return {}
    constants = {
        name: child for name, child in branch.get("properties", {}).items() if isinstance(child, dict) and "const" in child
    }
    return {name: json.dumps(child["const"]) for name, child in constants.items() if name in branch.get("required", ())}


def _kinds(branch: Schema) -> Iterator[str]:
    kinds = allowed_types(branch) if isinstance(branch, dict) else allowed_types({})
    yield from ("number" if kind == "integer" else kind for kind in kinds)


def empty_types(node: JsonSchema) -> frozenset[str]:
    """Return the types of which no value lies within the bounds of `node`."""
    low, high = integer_bounds(node)
    empty = (
        ["integer", "number"] if low is not None and high is not None and low > high and "number" not in allowed_types(node) else []
    )
    empty += ["array"] if node.get("minItems", 0) > node.get("maxItems", math.inf) else []
    empty += ["object"] if node.get("minProperties", 0) > node.get("maxProperties", math.inf) else []
    return frozenset(empty)
