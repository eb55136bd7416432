"""Finds keys of the contract and the cluster profile by a path, or by a part of one."""

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from pydantic.fields import FieldInfo

from engine.contract.base import Section
from engine.contract.contract import Contract
from engine.contract.keys import sections
from engine.contract.profile import Profile
from engine.contract.renames import RENAMES
from engine.docstrings import field_docs

TAGGED = re.compile(r"(.*) \(type: (.*)\)")
ITEMS = ("N", "KEY")
NEAREST = 5


class Key(NamedTuple):
    """A key and where it is used."""

    path: str
    """From the root, such as `judges.checks.N (type: numeric).max`: `N` is an item of a list, `KEY` one of a mapping."""
    section: type[Section]
    name: str
    root: type[Section]
    """Contract or Profile."""

    @property
    def field(self) -> FieldInfo:
        """The pydantic field."""
        return self.section.model_fields[self.name]

    @property
    def doc(self) -> str:
        """The docstring under the field, "" if there is none."""
        return field_docs(self.section).get(self.name, "")

    @property
    def parts(self) -> list[str]:
        """The path without the types of variants."""
        return [split_tag(part)[0] for part in self.path.split(".")]


class _Step(NamedTuple):
    """A part of a path: what it is called, and whether a person may leave it out."""

    name: str | None  # None: any name, or any number
    optional: bool


def find(wanted: str) -> list[Key]:
    """Return the keys that `wanted` names: a path from the root, else the end of one, such as `epochs` or `accept.confidence`.

    Items of lists may be a number, a name, `N`, or left out; so may the `type` of a variant: `judges.checks.numeric.max`. A key
    that several sections use is returned once for each path.
    """
    parts = [part for part in wanted.strip().replace("[", ".").replace("]", "").split(".") if part]
    if not parts:
        return []
    every = _keys()
    scores = [(key, _named(parts, steps)) for key, steps in every]
    if all(score is None for _, score in scores):
        scores = [(key, _ends(parts, steps)) for key, steps in every]
    best = max((score for _, score in scores if score is not None), default=None)
    return [key for key, score in scores if score is not None and score == best]  # `numeric` is rather a type than an item's name


def nearest(wanted: str) -> list[str]:
    """Return paths of keys that are spelled like `wanted`, the most similar first."""
    paths = {".".join(key.parts): key.name for key, _ in _keys()}
    near = difflib.get_close_matches(wanted, paths, n=NEAREST, cutoff=0.7)
    last = difflib.get_close_matches(wanted.rpartition(".")[2], sorted(set(paths.values())), n=NEAREST, cutoff=0.6)
    shortest = [min((path for path, name in paths.items() if name == each), key=len) for each in last]
    return list(dict.fromkeys([*near, *shortest]))[:NEAREST]


def renamed(wanted: str) -> list[str]:
    """Return a sentence for each key of an earlier version that `wanted` names."""
    parts = wanted.split(".")
    steps = [(rename, [_Step(None if part == "*" else part, part == "*") for part in rename.path.split(".")]) for rename in RENAMES]
    hits = [rename for rename, each in steps if _named(parts, each) or (len(parts) == 1 and each[-1].name == wanted)]
    return [f"{rename.path.replace('*', 'N')} was renamed to {rename.name}." for rename in hits]


@cache
def _keys() -> tuple[tuple[Key, list[_Step]], ...]:
    found = [
        Key(f"{path}.{name}".lstrip("."), section, name, root)
        for root in (Contract, Profile)
        for path, section in sections(root, "")
        for name in section.model_fields
    ]
    return tuple((key, list(_steps(key.path))) for key in found)


def split_tag(part: str) -> tuple[str, str]:
    """Return the name of a part of a path, and the type of the variant that it names, or ""."""
    tagged = TAGGED.fullmatch(part)
    return (tagged[1], tagged[2]) if tagged else (part, "")


def _steps(path: str) -> Iterator[_Step]:
    for name, tag in map(split_tag, path.split(".")):
        yield _Step(None, True) if name in ITEMS else _Step(name, False)
        if tag:
            yield _Step(tag, True)


def _named(parts: Sequence[str], steps: Sequence[_Step]) -> int | None:
    """Return how many of `steps` are named by `parts`, if these are exactly a path of them; None if they are not."""
    if not steps:
        return None if parts else 0
    step, rest = steps[0], steps[1:]
    scores = []
    if parts and step.name in (None, parts[0]):
        scores.append((_named(parts[1:], rest), int(step.name is not None)))
    if step.optional:
        scores.append((_named(parts, rest), 0))
    return max((score + named for score, named in scores if score is not None), default=None)


def _ends(parts: Sequence[str], steps: Sequence[_Step]) -> int | None:
    """Return how many steps are named by `parts`, if these are the end of a path, from a step on that has a name."""
    starts = [start for start in range(1, len(steps)) if steps[start].name == parts[0]]
    return max((score for start in starts if (score := _named(parts, steps[start:])) is not None), default=None)
