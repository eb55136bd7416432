"""Reads contracts from YAML. Every error names the path, the value found and what is allowed."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from engine.contract.base import Section
from engine.contract.contract import Contract
from engine.contract.renames import renamed_in
from engine.errors import ContractError

S = TypeVar("S", bound=Section)


class Loaded(NamedTuple):
    """A contract and the folder its relative paths start from."""

    contract: Contract
    root: Path


def load_contract(path: Path, changes: Sequence[str] = ()) -> Loaded:
    """Return the contract in the YAML file `path`, with `changes` such as `students.0.epochs=1` applied.

    Raises:
        ContractError: the file is missing, is not YAML, or has an unknown key, a value out of range or a broken cross rule.
    """
    raw = read_yaml(path)
    for change in changes:
        apply_change(raw, change)
    return Loaded(parse(Contract, raw, where=path), path.resolve().parent)


def read_yaml(path: Path) -> dict[str, JsonValue]:
    """Return the mapping in the YAML file `path`; `!include FILE` is replaced by the content of FILE, relative to `path`.

    Raises:
        ContractError: the file, or an included one, cannot be read or is not YAML.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader(path.parent))
    except FileNotFoundError:
        hint = "Name a contract, such as jobs/contracts/smoke.yaml."
        if ":/" in str(path):
            hint = "A contract is a file of this machine, not a URL; `rayleigh submit` sends it with its folder to a cluster."
        raise ContractError(f"{path}: there is no such file. {hint}") from None
    except (UnicodeDecodeError, IsADirectoryError, PermissionError) as error:
        raise ContractError(f"{path}: cannot be read as UTF-8 text: {error}.") from None
    except yaml.YAMLError as error:
        raise ContractError(f"{path}: is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ContractError(f"{path}: found {type(raw).__name__}, expected a mapping of sections.")
    return raw


def apply_change(raw: dict[str, JsonValue], change: str) -> None:
    """Set one value of `raw` in place; `change` is `a.b.0.c=value`, the value in YAML. An item of a list is called by its number
    or its `name`.

    Raises:
        ContractError: no `=`, or the path leads through something that is neither a mapping nor a list.
    """
    path, equals, value = change.partition("=")
    if not equals or not path:
        raise ContractError(f"--set {change}: found no '=', expected a.b=value.")
    *parents, last = path.split(".")
    node: Any = raw
    try:
        for key in parents:
            node = node[_index(node, key)] if isinstance(node, list) else node.setdefault(key, {})
        node[_index(node, last) if isinstance(node, list) else last] = yaml.safe_load(value)
    except (ValueError, IndexError, TypeError, AttributeError):
        hint = "lists are counted from 0, and their items may be called by their names"
        raise ContractError(f"--set {change}: {path} does not lead to a value; {hint}.") from None
    except yaml.YAMLError:
        raise ContractError(f"--set {change}: the value {value!r} is not YAML.") from None


def _index(items: list[Any], key: str) -> int:
    """Return the index of an item: `key` as a number, or the item that has this name."""
    return int(key) if key.isdigit() else [isinstance(item, dict) and item.get("name") for item in items].index(key)


def parse(section: type[S], raw: dict[str, JsonValue], *, where: Path) -> S:
    """Return `raw`, which the file `where` contains, as a `section`.

    Raises:
        ContractError: lists every problem, one a line; a contract's key of an earlier version is one, too.
    """
    raw, problems = renamed_in(raw) if section is Contract else (raw, [])
    parsed = None
    try:
        parsed = section.model_validate(raw)
    except ValidationError as error:
        details = error.errors()
        parents = {problem["loc"][:depth] for problem in details for depth in range(len(problem["loc"]))}
        problems += [_explain(section, problem) for problem in details if problem["loc"] not in parents]  # the cause, not its echo
    if parsed is None or problems:
        raise ContractError("\n".join([f"{where}: {len(problems)} problem(s):", *(f"  {problem}" for problem in problems)]))
    return parsed


def _loader(folder: Path) -> type[yaml.SafeLoader]:
    """Return a safe YAML loader class that reads `!include` relative to `folder`."""

    class Loader(yaml.SafeLoader):
        pass

    def include(loader: Any, node: Any) -> Any:
        return read_include(folder / str(loader.construct_scalar(node)))

    Loader.add_constructor("!include", include)
    return Loader


def read_include(path: Path) -> Any:
    """Return what replaces an `!include`: the rows of a .jsonl, the value of a .json or YAML file, else the text.

    Raises:
        ContractError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        if path.suffix == ".json":
            return json.loads(text)
    except (OSError, ValueError) as error:
        raise ContractError(f"!include {path}: cannot be read: {error}.") from None
    return read_yaml(path) if path.suffix in {".yaml", ".yml"} else text.strip()


def _explain(section: type[Section], problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"]) or "(contract)"
    if problem["type"] == "extra_forbidden":
        keys = _keys_at(section, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), keys, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{path}: unknown key.{hint} Allowed: {', '.join(sorted(keys))}."
    if problem["type"] == "missing":
        return f"{path}: is missing."
    found = "" if problem["type"] == "value_error" else f" Found {problem['input']!r:.80}."
    words = problem["msg"].removeprefix("Value error, ")
    return f"{path}{'' if words.startswith('.') else ': '}{words}.{found}"  # a place below the key goes on with its path


def _keys_at(kind: Any, loc: Sequence[int | str]) -> list[str]:
    """Return the keys that are allowed at `loc` below the type `kind`; of a union, those of all its members."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not loc:
            return list(kind.model_fields)
        field = kind.model_fields.get(str(loc[0]))
        return _keys_at(field.annotation, loc[1:]) if field else _tagged(kind, loc)
    if get_origin(kind) in (Union, type(int | str)):
        return [key for option in get_args(kind) for key in _keys_at(option, loc)]
    arguments = get_args(kind)
    if not arguments:
        return []
    rest = loc[1:] if loc and isinstance(loc[0], int) else loc
    return [key for argument in arguments for key in _keys_at(argument, rest)]


def _tagged(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the keys below the tag of a discriminated union, which pydantic puts into the path, if `kind` has this tag."""
    tag = kind.model_fields.get("type")
    return _keys_at(kind, loc[1:]) if tag and loc[0] in get_args(tag.annotation) else []
