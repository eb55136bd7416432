"""The shape of a manifest: against our own closed model of the fields, or the operator's schemas where a person has them."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic import BaseModel, ValidationError

from engine.cluster.fields import OBJECTS
from engine.cluster.manifest import KINDS, Manifest, Node, Problem
from engine.errors import InputError
from engine.records.base import Json

Schema = Json
FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a definition has 10,000 lines and more
UNKNOWN = "there is no such field, and the API server drops or refuses it."
GET = "Fetch them with `helm pull kuberay/kuberay-operator --untar`: they are kuberay-operator/crds/*.yaml."


def check_fields(manifest: Manifest) -> Iterator[Problem]:
    """Yield each unknown key and each value of a wrong type, by the fields that Rayleigh knows."""
    try:
        OBJECTS[manifest.kind].model_validate(manifest.root.value)
    except ValidationError as error:
        for fault in error.errors():
            node = Node(fault.get("input"), _path(fault["loc"]))
            yield manifest.problem(node, *_explain(OBJECTS[manifest.kind], fault))


def check_schema(manifest: Manifest, schemas: Mapping[str, Schema]) -> Iterator[Problem]:
    """Yield each breach of the operator's schema of this kind, in which properties that it does not list are closed."""
    for error in Draft202012Validator(schemas[manifest.kind]).iter_errors(manifest.root.value):
        cause = best_match([error]) or error
        if cause.validator == "additionalProperties":
            yield from _unlisted(manifest, cause)
            continue
        node = Node(cause.instance, _path(list(cause.absolute_path)))
        message = cause.message if len(cause.message) < 200 else f"{cause.message[:200]}..."
        yield manifest.problem(node, f"the schema refuses it: {message}.", _mend_schema(cause))


def read_schemas(folder: Path) -> dict[str, Schema]:
    """Return the closed schema of each kind in `folder`: the operator's CRDs (YAML), or one JSON Schema for each kind.

    Raises:
        InputError: a kind has no schema there, or a file cannot be read.
    """
    found: dict[str, Schema] = {}
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            text = path.read_text(encoding="utf-8")
            loaded = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=FAST)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML or JSON: {error}.") from None
        if isinstance(loaded, dict):
            found |= dict(_schemas_of(loaded, path))
    if missing := sorted(set(KINDS) - set(found)):
        raise InputError(f"--schemas {folder}: found no schema of ray.io/v1 for {', '.join(missing)}. {GET}")
    return {kind: closed(schema) for kind, schema in found.items()}


def closed(schema: Any) -> Any:
    """Return `schema` with every object that lists its properties closed to others, as under strict validation."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items() if key not in ("format", "nullable")}
    if isinstance(schema.get("required"), list):  # the API server fills defaults in before it looks for what is missing
        given = schema.get("properties", {})
        result["required"] = [name for name in schema["required"] if "default" not in given.get(name, {})]
    if isinstance(schema.get("properties"), dict) and not _is_open(schema) and "type" in schema:
        result["additionalProperties"] = False
    return result


def _is_open(schema: Schema) -> bool:
    return "additionalProperties" in schema or bool(schema.get("x-kubernetes-preserve-unknown-fields"))


def _schemas_of(loaded: Schema, path: Path) -> Iterator[tuple[str, Schema]]:
    names = Node(loaded)["spec"]["names"]
    if loaded.get("kind") == "CustomResourceDefinition" and names["kind"].text in KINDS:
        for version in Node(loaded)["spec"]["versions"].items:
            if version["name"].text == "v1":
                yield names["kind"].text, version["schema"]["openAPIV3Schema"].value
    elif "properties" in loaded:
        yield from ((kind, loaded) for kind in KINDS if kind in path.stem.replace("-", " ").replace("_", " ").split())


def _path(loc: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _explain(kind: type[BaseModel], fault: Any) -> tuple[str, str]:
    """Return what is wrong, and how to mend it."""
    loc, found = fault["loc"], fault.get("input")
    if fault["type"] == "extra_forbidden":
        return UNKNOWN, _allowed(str(loc[-1]), _keys(kind, loc[:-1]))
    if fault["type"] == "missing":
        return "is missing.", "Add it: the operator requires it."
    if fault["type"] == "string_type" and isinstance(found, int | float):
        text = json.dumps(found)
        return f"found {text} ({type(found).__name__}), expected a string.", f'Write it in quotes: "{text}".'
    if fault["type"] == "string_type" and isinstance(found, dict | list):
        return f"found a {type(found).__name__}, expected a string that holds YAML.", "Begin it with `|` and indent what follows."
    if fault["type"] == "literal_error":
        return f"found {found!r}.", f"Write one of {fault['ctx']['expected']}."
    return f"found {found!r:.80}.", f"{fault['msg']}."


def _unlisted(manifest: Manifest, error: Any) -> Iterator[Problem]:
    """Yield each key that the schema of its parent does not list."""
    parent = Node(error.instance, _path(list(error.absolute_path)))
    listed = error.schema.get("properties", {})
    for key, node in parent.fields.items():
        if key not in listed:
            yield manifest.problem(node, UNKNOWN, _allowed(key, list(listed)))


def _allowed(key: str, keys: list[str]) -> str:
    alike = {name.lower(): name for name in keys}
    near = difflib.get_close_matches(key.lower(), alike, n=1)
    return f"{f'Did you mean {alike[near[0]]}? ' if near else ''}Allowed: {', '.join(sorted(keys))}."


def _keys(kind: Any, loc: Sequence[int | str]) -> list[str]:
    """Return the keys that are allowed at `loc` below the type `kind`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not loc:
            return list(kind.model_fields)
        field = kind.model_fields.get(str(loc[0]))
        return _keys(field.annotation, loc[1:]) if field else []
    rest = loc[1:] if loc and isinstance(loc[0], int) and str(kind).startswith("list") else loc
    return [key for argument in get_args(kind) for key in _keys(argument, rest)]


def _mend_schema(error: Any) -> str:
    if error.validator == "type" and error.schema.get("type") == "string":
        return (
            f'Write it in quotes: "{json.dumps(error.instance)}".' if isinstance(error.instance, int | float) else "Write a string."
        )
    if error.validator == "enum":
        return f"Write one of {', '.join(map(str, error.validator_value))}."
    return f"The schema says {error.validator}: {str(error.validator_value)[:120]}."
