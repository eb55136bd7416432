"""Reads contracts from YAML. Every error names the path, the value found and what is allowed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import JsonValue

from engine.contract.contract import Contract
from engine.contract.renames import renamed_in
from engine.contract.sections import is_url, parse, read_yaml, refuse
from engine.contract.unread import unread
from engine.contract.yaml_text import load_yaml
from engine.errors import ContractError


class Loaded(NamedTuple):
    """A contract, and the folder or URL from which its relative paths start."""

    contract: Contract
    root: str
    """An absolute path, or a URL."""


def load_contract(path: Path | str, changes: Sequence[str] = (), *, is_new: bool = True) -> Loaded:
    """Return the contract in the YAML at a path or URL, with `changes` such as `students.0.epochs=1` applied.

    `is_new`: it is no contract by which a run was begun; such a run goes on with settings that a new one may not have.

    Raises:
        ContractError: the file is missing, is not YAML, or has an unknown key, a value out of range or a broken cross rule, or, if
            it is new, settings that nothing reads.
    """
    raw = read_yaml(path)
    for change in changes:
        apply_change(raw, change)
    root = str(path).rpartition("/")[0] if is_url(path) else str(Path(path).resolve().parent)
    contract = parse_contract(raw, where=path)
    if is_new:
        refuse(unread(contract), where=path)
    return Loaded(contract, root)


def parse_contract(raw: dict[str, JsonValue], *, where: Path | str) -> Contract:
    """Return `raw`, which the file `where` contains, as a contract.

    Raises:
        ContractError: lists every problem, one a line; a key of an earlier version is one, too.
    """
    raw, problems = renamed_in(raw)
    return parse(Contract, raw, where=where, known=problems)


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
        node[_index(node, last) if isinstance(node, list) else last] = load_yaml(value, path)
    except (ValueError, IndexError, TypeError, AttributeError):
        hint = "lists are counted from 0, and their items may be called by their names"
        raise ContractError(f"--set {change}: {path} does not lead to a value; {hint}.") from None
    except yaml.YAMLError as error:
        raise ContractError(f"--set {change}: the value {value!r} is not YAML: {getattr(error, 'problem', error)}.") from None


def _index(items: list[Any], key: str) -> int:
    """Return the index of an item: `key` as a number, or the item that has this name."""
    return int(key) if key.isdigit() else [isinstance(item, dict) and item.get("name") for item in items].index(key)
