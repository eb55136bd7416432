"""What identifies an artifact: the parts of the contract that its job reads, its source files and its inputs; and how two
differ."""

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from engine.contract.contract import Contract
from engine.contract.renames import promoted
from engine.records.base import Json
from engine.records.record import ArtifactRecord, Identity
from engine.rows import content_id
from engine.storage.artifact import load_artifact

if TYPE_CHECKING:
    from engine.runs.job import JobContext

SOURCES = "sources"
"""Key of a recipe that holds the hashes of files; all other keys are paths into the contract."""
LONGEST = 60  # characters of a value in a message


def identify(context: "JobContext") -> Identity:
    """Return the identity of the artifact that the job would make now.

    Raises:
        MissingArtifact: an input has not been made.
    """
    contract = context.contract.model_dump(mode="json")
    job = context.job
    recipe: Json = {path: _without(_value_at(contract, path), job.ignores) for path in job.reads}
    if job.inputs:
        recipe[SOURCES] = imported(job.inputs)(context)
    inputs_of = [name for name in job.needs if name not in job.derived]
    present = [name for name in inputs_of if name not in job.optional or load_artifact(context.run / name)]
    inputs = {name: context.artifact(name).fingerprint for name in present}
    return Identity(job.name, recipe, inputs, content_id(_canonical(recipe), _canonical(inputs)))


def recipe_of(record: ArtifactRecord) -> Json:
    """Return the recipe of an artifact with the names of today; keys that the contract did not have yet have their defaults."""
    recipe: Json = {}
    for older, value in record.recipe.items():
        if older == SOURCES:
            recipe[SOURCES] = value
            continue
        value, path = promoted(value, older)
        recipe[path] = _with_defaults(value, path)
    return recipe


def changes(record: ArtifactRecord, current: Identity, ignores: Sequence[str] = ()) -> list[str]:
    """Return `path: old -> new` for each value in which a finished artifact differs from what its job would make now.

    A path that the artifact's recipe lacks was not read when it was made, so its value does not matter; nor do keys in `ignores`.
    """
    old = {path: _without(value, ignores) for path, value in recipe_of(record).items()}
    new = {path: value for path, value in current.recipe.items() if path in old or path == SOURCES}
    return [*differences(old, new), *differences(record.inputs, current.inputs, "inputs")]


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield `path: old -> new` for each value that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, f"{path}.{index}")
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def imported(target: str) -> Callable[..., Any]:
    """Return the function that `module:function` names."""
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)


def _with_defaults(value: Any, path: str) -> Any:
    """Return `value` with the default of each key that it lacks; as it is if the contract of today does not accept it."""
    adapter = _adapter(path)
    try:
        return value if adapter is None else adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError:
        return value


@cache
def _adapter(path: str) -> TypeAdapter[Any] | None:
    """Return what validates the contract's value at `path`; None if the contract has no such path."""
    kind: Any = Contract
    for key in path.split("."):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if key not in kind.model_fields:
                return None
            kind = kind.model_fields[key].annotation
        elif get_args(kind):
            kind = get_args(kind)[0]  # of a list that is indexed by name
        else:
            return None
    return TypeAdapter(kind)


def _value_at(tree: Any, path: str) -> Any:
    """Return the value at `path`; an item of a list is called by its `name`."""
    for key in path.split("."):
        tree = next(item for item in tree if item["name"] == key) if isinstance(tree, list) else tree[key]
    return tree


def _without(value: Any, keys: Sequence[str]) -> Any:
    """Return `value`, if it is a mapping without `keys`."""
    return {key: part for key, part in value.items() if key not in keys} if isinstance(value, dict) and keys else value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = _canonical(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
