"""The schema that a decoder gets: what xgrammar 0.2, as vLLM 0.32 uses it, cannot hold exactly is left to the check of the answer.

vLLM refuses requests with some keywords (`uniqueItems`, `multipleOf`, `pattern` beside a length, ...). Others xgrammar ignores, or
holds more than they say: bounds on the length of a text forbid line breaks, quotation marks and backslashes in it; bounds on a
number forbid exponents and more than six decimals; `{"type": "array"}` without `items` is the empty list; keywords beside `anyOf`,
`allOf` and `$ref` have no effect. The schema returned here accepts what the full one accepts, but for two limits that are meant:
objects and lists have no members that the schema does not name, and members come in the order of `properties`.
"""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from engine.contract.answer_schema import LISTED, NAMED, ONE, Schema, allowed_types, fitting_values, integer_bounds, resolve
from engine.contract.base import JsonSchema
from engine.contract.models import Model
from engine.inference.decodable_pattern import read_pattern
from engine.inference.intersect import ANNOTATIONS, DEFINITIONS, Merger, empty_types, is_disjoint

FORMATS = frozenset(
    "email date time date-time duration ipv4 ipv6 hostname uuid uri uri-reference uri-template json-pointer "
    "relative-json-pointer".split()
)
"""Values of `format` that xgrammar has a grammar for."""
IGNORED = ("dependencies", "dependentRequired", "dependentSchemas", "else", "if", "not", "then", "unevaluatedItems", "$dynamicRef")
OF_TYPE = {
    "array": ("contains", "maxContains", "minContains", "uniqueItems"),
    "number": ("multipleOf",),
    "string": ("maxLength", "minLength"),
}
"""Type -> its keywords that the decoder does not hold, or holds with more than they say."""
REFUSED = ("contains", "maxContains", "minContains", "multipleOf", "uniqueItems")
"""Keywords with which vLLM refuses every request."""
BOUNDS = ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum")
INT64 = 2**63 - 1
DEFS = ("#/$defs/", "#/definitions/")


class Left(NamedTuple):
    """Something of a schema that the decoder does not hold."""

    path: str  # such as `.properties.tags.uniqueItems`
    reason: str


class Decodable(NamedTuple):
    """A schema for the decoder, and what the check of the answer must do in its place."""

    schema: JsonSchema
    left: tuple[Left, ...]
    was_refused: bool
    """Whether vLLM refuses every request with the full schema."""


def decodable(schema: JsonSchema) -> Decodable:
    """Return the schema that decodes answers of `schema`, which `engine.contract.answer_schema` finds no fault with.

    A schema that the decoder holds exactly is returned as it is, byte by byte.
    """
    return _decodable(json.dumps(schema))


def decoding_identity(model: Model, schema: JsonSchema | None) -> list[str]:
    """Return what of the decoding schema identifies an answer, besides `schema` itself.

    With vLLM nothing where `schema` was always decoded. Where it refused every request with `schema`, ledgers hold these refusals
    under the key without it; those of llama.cpp hold answers of a grammar that forced a space behind each comma and colon.
    """
    if model.type not in ("vllm", "llama_cpp") or schema is None:
        return []
    found = [json.dumps(decodable(schema).schema)] if decodable(schema).was_refused else []
    return [*found, "compact"] if model.type == "llama_cpp" else found


@lru_cache(maxsize=1024)  # the requests of a prompt follow each other
def _decodable(text: str) -> Decodable:
    root = json.loads(text)
    loosener = _Loosener(root)
    built = loosener.schema(root, "")
    schema: JsonSchema = built if isinstance(built, dict) else {"enum": []}
    if loosener.hoisted:
        schema = {**schema, "$defs": {**schema.get("$defs", {}), **loosener.hoisted}}
    return Decodable(schema, tuple(dict.fromkeys(loosener.left)), loosener.was_refused)


class _Loosener:
    def __init__(self, root: Schema) -> None:
        self.root, self.left, self.was_refused = root, list[Left](), False
        self.hoisted: dict[str, Schema] = {}
        self.names: dict[str, str] = {}  # reference -> name of its target in `hoisted`
        self.merger = Merger(root, self.leave)
        self.has_ids = '"$id"' in json.dumps(root)  # references may begin elsewhere than at the root

    def leave(self, path: str, reason: str, refused: bool = False) -> None:
        self.left.append(Left(path, reason))
        self.was_refused |= refused

    def schema(self, node: Schema, path: str) -> Schema:
        """Return the schema `node`, which stands at `path`, for the decoder."""
        if not isinstance(node, dict):
            return node
        around = self.merger.open
        try:
            return self._schema(node, path)
        finally:
            self.merger.open = around

    def _schema(self, node: JsonSchema, path: str) -> Schema:
        node = self._in_place(dict(node), path)
        if "$ref" in node:
            kept = {key: value for key, value in node.items() if key in (*ANNOTATIONS, *DEFINITIONS)}
            return self._with_children({**kept, "$ref": self._reference(node["$ref"])}, path)
        values = fitting_values(self.root, node)
        if values == []:
            return False
        if values is not None:
            return self._with_children(self._values(node, values), path)
        if impossible := allowed_types(node) & empty_types(node) if "type" in node else frozenset[str]():  # merging made them so
            node["type"] = sorted(allowed_types(node) - impossible)
            if not node["type"]:
                return False
            for key in (*BOUNDS, "minItems", "maxItems", "minProperties", "maxProperties"):
                node.pop(key, None)
        ignored = _Loosener(self.root)  # vLLM refuses keywords in them, too
        for key in set(IGNORED) & set(node):
            ignored._children(key, node[key], path)
        self.was_refused |= ignored.was_refused
        self._drop(node, path, "the decoder does not know it", IGNORED)
        kinds = allowed_types(node) if "type" in node else frozenset[str]()
        for hold in (self._text, self._number, self._list, self._object):
            hold(node, path, kinds)
        return self._with_children(node, path)

    def _with_children(self, node: JsonSchema, path: str) -> Schema:
        """Return `node` with its children for the decoder; False if nothing fits because of one of them."""
        built = {key: self._children(key, value, path) for key, value in node.items()}
        impossible = set(node.get("properties", ())) - set(built.get("properties", ()))
        empty = any(key in built and not built[key] for key in ("anyOf", "oneOf"))
        return False if empty or False in built.get("allOf", ()) or impossible & set(node.get("required", ())) else built

    def _children(self, key: str, value: Any, path: str) -> Any:
        if key in NAMED:
            children = {name: self.schema(child, f"{path}.{key}.{name}") for name, child in value.items()}
            return children if key in DEFINITIONS else {name: child for name, child in children.items() if child is not False}
        if key in LISTED and isinstance(value, list):
            children = [self.schema(child, f"{path}.{key}.{number}") for number, child in enumerate(value)]
            if key == "prefixItems":  # xgrammar 0.2.8 refuses `true` there
                return [{} if child is True else child for child in children]
            return [child for child in children if child is not False] if key in ("anyOf", "oneOf") else children
        return self.schema(value, f"{path}.{key}") if key in ONE else value

    def _drop(self, node: JsonSchema, path: str, reason: str, keys: tuple[str, ...], *, typed: bool = True) -> None:
        for key in keys:
            if key in node:
                value = node.pop(key)
                self.was_refused |= typed and key in REFUSED
                if value is not False and (key, value) != ("minLength", 0):
                    self.leave(f"{path}.{key}", reason)

    def _in_place(self, node: JsonSchema, path: str) -> JsonSchema:
        """Merge what applies to the same value: xgrammar does not look at keywords beside `$ref`, `allOf` and `anyOf`."""
        branches = node.get("allOf", ())
        self.was_refused |= len(branches) > 1
        if len(branches) > 1 or any(key in node and self.merger.matters(node, key) for key in ("allOf", "$ref")):
            flat = self.merger.flat(node, path)
            if not isinstance(flat, dict):
                return {"enum": []}
            node = flat
        for key in ("anyOf", "oneOf"):
            if key in node and self.merger.matters(node, key):
                node = self.merger.distributed(node, key, path)
        if len(node.get("oneOf", ())) > 1 and not is_disjoint([self._target(branch) for branch in node["oneOf"]]):
            self.leave(f"{path}.oneOf", "the decoder reads it as anyOf")
        return node

    def _target(self, branch: Schema) -> Schema:
        return resolve(self.root, branch["$ref"]) if isinstance(branch, dict) and "$ref" in branch else branch

    def _reference(self, reference: str) -> str:
        """Return the reference as a pointer that xgrammar can follow: `#`, or a plain name in the definitions of the root."""
        name = next((reference.removeprefix(start) for start in DEFS if reference.startswith(start)), "")
        is_plain = bool(name) and not set("/~%") & set(name) and not self.has_ids
        if reference == "#" or is_plain:
            return reference
        if reference not in self.names:
            self.names[reference] = f"decoded_{len(self.names) + 1}"
            self.hoisted[self.names[reference]] = self.schema(resolve(self.root, reference), f".$ref({reference})")
        return f"#/$defs/{self.names[reference]}"

    def _values(self, node: JsonSchema, values: list[Any]) -> JsonSchema:
        given = node["enum"] if "enum" in node else [node["const"]]
        if len(values) < len(given):
            return {**{key: value for key, value in node.items() if key in ANNOTATIONS}, "enum": values}
        return {key: value for key, value in node.items() if key in (*ANNOTATIONS, *DEFINITIONS, "type", "enum", "const")}

    def _text(self, node: JsonSchema, path: str, kinds: frozenset[str]) -> None:
        typed = "string" in kinds
        shaped = "pattern" in node or "format" in node
        for key in OF_TYPE["string"]:
            if key in node and shaped and typed:
                self.leave(f"{path}.{key}", "vLLM refuses it beside `pattern` and `format`", True)
                del node[key]
        self._drop(node, path, "the decoder would forbid line breaks, quotation marks and backslashes", OF_TYPE["string"])
        if node.get("format", "email") not in FORMATS:
            self.leave(f"{path}.format", f"neither decoder nor check knows {node['format']!r}", typed)
            del node["format"]
        if "pattern" in node:
            read = read_pattern(node["pattern"])
            if not typed:
                self.leave(f"{path}.pattern", "the decoder holds it beside `type: string` only")
            elif read.note:
                self.leave(f"{path}.pattern", read.note, read.refused)
            if not typed or not read.holds:
                del node["pattern"]
            elif node.pop("format", None):
                self.leave(f"{path}.format", "the decoder holds one of `format` and `pattern`")

    def _number(self, node: JsonSchema, path: str, kinds: frozenset[str]) -> None:
        whole = "integer" in kinds and "number" not in kinds
        self._drop(node, path, "vLLM refuses it", OF_TYPE["number"], typed=bool(kinds & {"integer", "number"}))
        if not whole:
            self._drop(node, path, "the decoder would forbid exponents and a seventh decimal", BOUNDS)
            return
        if all(_is_whole(node.get(key, 0)) for key in BOUNDS):
            return
        self.was_refused = True
        for key, bound in zip(("minimum", "maximum"), integer_bounds(node), strict=True):
            node.pop(f"exclusive{key.capitalize()}", None)
            node.pop(key, None)
            if bound is not None and abs(bound) <= INT64:
                node[key] = bound
            elif bound is not None:
                self.leave(f"{path}.{key}", "the decoder counts to 2^63")

    def _list(self, node: JsonSchema, path: str, kinds: frozenset[str]) -> None:
        if isinstance(node.get("items"), list):  # up to draft 2019-09
            self.was_refused = True
            node["prefixItems"] = node.pop("items")
            if "additionalItems" in node:
                node["items"] = node.pop("additionalItems")
        typed = "array" in kinds
        self._drop(node, path, "vLLM refuses it" if typed else "the decoder does not know it", OF_TYPE["array"], typed=typed)
        first = node.get("prefixItems", [])
        most = min(node.get("maxItems", len(first)), first.index(False) if False in first else len(first))
        if typed and "items" not in node and (not first or node.get("minItems", 0) > len(first)):
            self.was_refused |= "minItems" in node
            node["items"] = {}
        self.was_refused |= True in first
        if most < len(first):
            self.was_refused = True
            node |= {"prefixItems": first[:most], "items": False}
            for key in ("maxItems", *(() if most else ("prefixItems",))):
                node.pop(key, None)

    def _object(self, node: JsonSchema, path: str, kinds: frozenset[str]) -> None:
        properties = {name: child for name, child in node.get("properties", {}).items() if child is not False}
        if len(properties) < len(node.get("properties", {})):
            node["properties"], self.was_refused = properties, True
        self._named_by_pattern(node, path, typed="object" in kinds)
        named = {"properties", "patternProperties", "propertyNames"} & set(node)
        undeclared = [name for name in node.get("required", ()) if isinstance(name, str) and name not in properties]
        if undeclared and ("object" in kinds or "properties" in node):
            others = node.get("additionalProperties", {})
            node["properties"] = {**properties, **dict.fromkeys(undeclared, others)}
        counted = node.get("minProperties", 0) > len(properties) or ("maxProperties" in node and not named)
        if counted and "object" in kinds:
            self.was_refused |= "minProperties" in node and "additionalProperties" not in node
            node.setdefault("additionalProperties", True)

    def _named_by_pattern(self, node: JsonSchema, path: str, *, typed: bool) -> None:
        patterns = node.get("patternProperties", {})
        alone = len(patterns) == 1 and not {"properties", "propertyNames"} & set(node)
        if patterns and not (alone and read_pattern(next(iter(patterns))).is_exact):
            self.leave(f"{path}.patternProperties", "the decoder takes any name there", typed and not alone)
            del node["patternProperties"]
            node["additionalProperties"] = True
        names = node.get("propertyNames")
        if names is None:
            return
        pattern = names.get("pattern") if isinstance(names, dict) and set(names) <= {"pattern", "type"} else None
        if pattern is None or not read_pattern(pattern).is_exact or {"properties", "patternProperties"} & set(node):
            shaped = isinstance(names, dict) and {"pattern", "format"} & set(names) and {"minLength", "maxLength"} & set(names)
            beside = {"properties", "unevaluatedProperties"} & set(node) or patterns
            self.leave(f"{path}.propertyNames", "the decoder takes any name", typed and bool(shaped or beside))
            del node["propertyNames"]
            if "properties" not in node:
                node.setdefault("additionalProperties", True)


def _is_whole(bound: Any) -> bool:
    return not isinstance(bound, bool) and float(bound).is_integer() and abs(bound) <= INT64
