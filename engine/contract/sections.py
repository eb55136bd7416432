"""Reads a section of the contract, or a profile, from YAML. Every error names the path, the value found and what is allowed."""

import difflib
import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from engine.contract.base import Section
from engine.contract.problems import causes, explained, odd_numbers
from engine.contract.yaml_text import load_yaml
from engine.errors import ContractError, StoreUnreachable
from engine.retry import cannot_open, with_retries

S = TypeVar("S", bound=Section)


def read_yaml(
    path: Path | str, within: tuple[str, ...] = (), included: list[Path | str] | None = None
) -> dict[str, JsonValue]:  # fmt: skip
    """Return the mapping in the YAML at a path or URL; `!include FILE` is replaced by the content of FILE, relative to `path`.

    `within` are the files that are being read and include this one. The places of all files that are included, and of those that
    these include, are added to `included`.

    Raises:
        ContractError: the file, or an included one, cannot be read, is not YAML, or includes itself.
    """
    if str(path) in within:
        raise ContractError(f"{path}: includes itself, through {' and '.join(within)}. Take the `!include` out of one of them.")

    def include(name: str) -> Any:
        place = _beside(path, name)
        if included is not None:
            included.append(place)
        return read_include(place, (*within, str(path)), included)

    try:
        raw = load_yaml(_text(path), str(path), include)
    except FileNotFoundError:
        raise ContractError(f"{path}: there is no such file. Name a contract, such as jobs/contracts/smoke.yaml.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise ContractError(f"{path}: cannot be read as UTF-8 text: {error}.") from None
    except yaml.YAMLError as error:
        raise ContractError(f"{path}: is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ContractError(f"{path}: found {type(raw).__name__}, expected a mapping of sections.")
    return raw


def parse(section: type[S], raw: dict[str, JsonValue], *, where: Path | str, known: Sequence[str] = ()) -> S:
    """Return `raw`, which the file `where` contains, as a `section`; `known` are problems that were found before.

    Raises:
        ContractError: lists every problem, one a line.
    """
    parsed, problems = None, [*known]
    try:
        parsed = section.model_validate(raw)
        problems += odd_numbers(parsed, raw)
    except ValidationError as error:
        problems += [_explain(section, problem, raw) for problem in causes(error)]
    refuse(problems, where=where)
    assert parsed is not None, "what is not valid has a problem"
    return parsed


def refuse(problems: Iterable[str], *, where: Path | str) -> None:
    """Raise ContractError with `problems`, if there are any, of what the file `where` says; one a line."""
    if found := list(problems):
        raise ContractError("\n".join([f"{where}: {len(found)} problem(s):", *(f"  {problem}" for problem in found)]))


def _beside(path: Path | str, name: str) -> Path | str:
    """Return the place of the file `name`, as a file at `path` calls it."""
    if is_url(name):
        return name
    if not is_url(path) or name.startswith("/"):
        return Path(path).parent / name
    scheme, _, place = str(path).partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(posixpath.dirname(place), name))}"


def is_url(path: Path | str) -> bool:
    """Return whether `path` is a URL."""
    return "://" in str(path)


def _text(path: Path | str) -> str:
    """Return the text at a path or URL.

    Raises:
        StoreUnreachable: the store of the URL cannot be reached.
        ContractError: it refuses to give it.
    """
    if not is_url(path):
        return Path(path).read_text(encoding="utf-8")
    import fsspec

    def read() -> str:
        with fsspec.open(str(path), "rt", encoding="utf-8") as file:  # lines end as in a file on a disk
            return str(file.read())  # pyright: ignore[reportAttributeAccessIssue]

    try:
        return with_retries(str(path), read)
    except StoreUnreachable:
        raise
    except (FileNotFoundError, UnicodeDecodeError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # clients of stores raise classes of their own
        raise ContractError(f"{path}: cannot be read: {type(error).__name__}: {cannot_open(error)}.") from None


def read_include(path: Path | str, within: tuple[str, ...] = (), included: list[Path | str] | None = None) -> Any:
    """Return what replaces an `!include`: the rows of a .jsonl, the value of a .json or YAML file, else the text.

    Raises:
        ContractError: the file cannot be read.
    """
    try:
        text, suffix = _text(path), PurePosixPath(str(path)).suffix
        if suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        if suffix == ".json":
            return json.loads(text)
    except (OSError, ValueError) as error:
        raise ContractError(f"!include {path}: cannot be read: {error}.") from None
    return read_yaml(path, within, included) if suffix in {".yaml", ".yml"} else text.strip()


def _explain(section: type[Section], problem: Any, raw: object) -> str:
    path = ".".join(_written(problem["loc"], raw, is_missing=problem["type"] == "missing")) or "(contract)"
    if problem["type"] == "extra_forbidden":
        keys = _keys_at(section, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), keys, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{path}: unknown key.{hint} Allowed: {', '.join(sorted(keys))}."
    if problem["type"] == "missing":
        return f"{path}: is missing."
    words = explained(problem)
    return f"{path}{'' if words.startswith('.') else ': '}{words}"  # a place below the key goes on with its path


def _written(loc: Sequence[int | str], raw: Any, *, is_missing: bool) -> Iterator[str]:
    """Yield the parts of a problem's place as they are written in `raw`: pydantic puts tags of unions and `[key]` between them."""
    for number, part in enumerate(loc, 1):
        known = {str(key): value for key, value in (raw.items() if isinstance(raw, dict) else enumerate(raw or ()))}
        is_tag = isinstance(raw, dict) and raw.get("type") == part
        is_named = number == len(loc) and (is_missing or (str(part).isidentifier() and str(part).islower() and not is_tag))
        if str(part) in known or (not known and part != "[key]") or is_named:
            yield str(part)
            raw = known.get(str(part))
            raw = raw if isinstance(raw, dict | list) else None


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
