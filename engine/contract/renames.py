"""Keys and values of the contract that were renamed.

To rename a key, rename the field of its section and add a line to RENAMES, which is sorted by path. Nothing else is needed. The
recipes of finished artifacts and the contract in `run.json` are promoted when they are read, so that paid work stays valid. In a
contract file the older key is an error that names the new one.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, JsonValue
from pydantic_core import to_json


class Rename(NamedTuple):
    """A key that was renamed."""

    path: str
    """Path of the older key, with the older names of its parents; `*` stands for any index of a list or any key."""
    name: str
    """The key's name today, in the same section."""


class RenamedValue(NamedTuple):
    """A value that was renamed."""

    path: str
    """Path of the key, with the names of today; `*` stands for any index of a list or any key."""
    old: str
    new: str


CHECKS = {  # keys of the checks, which several sections have
    "absolute": "abs_tol",
    "bar": "banned",
    "cited": "citation_pattern",
    "high": "max",
    "least": "min_citations",
    "least_chars": "min_chars",
    "low": "min",
    "of": "allowed",
    "passages": "passage_pattern",
    "quoted_words": "min_quote_words",
    "relative": "rel_tol",
    "share": "max_share",
    "sure": "min_probability",
    "walls": "isolation",
    "words": "min_words",
}
RENAMES = (
    *(Rename(f"curation.boundary.*.checks.*.{old}", new) for old, new in CHECKS.items()),
    *(Rename(f"evaluation.checks.*.{old}", new) for old, new in CHECKS.items()),
    *(Rename(f"judges.checks.*.{old}", new) for old, new in CHECKS.items()),
    Rename("curation.answers.most", "max_per_prompt"),
    Rename("curation.boundary", "contrastive"),
    Rename("curation.boundary.*.ask", "prompt_template"),
    Rename("curation.boundary.*.fails", "reply_if_wrong"),
    Rename("curation.boundary.*.holds", "reply_if_right"),
    Rename("curation.boundary.*.sampling.enough", "stop_after_verified"),
    Rename("curation.boundary.*.say", "feedback_template"),
    Rename("curation.boundary.*.says", "reply_template"),
    Rename("curation.boundary_share", "contrastive_share"),
    Rename("curation.preferences.most", "max_per_prompt"),
    Rename("judges.calibrate.floor", "minimum"),
    Rename("judges.pools.rules.*.when.agreement.least", "min"),
    Rename("judges.pools.rules.*.when.confidence.least", "min"),
    Rename("judges.pools.rules.*.when.disagreement", "rubric_spread"),
    Rename("judges.pools.rules.*.when.disagreement.least", "min"),
    Rename("judges.pools.rules.*.when.ending", "finish_reason"),
    Rename("judges.pools.rules.*.when.rubric_spread.least", "min"),
    Rename("judges.pools.tiers", "confidence_tiers"),
    Rename("judges.ranking.marks", "labels"),
    Rename("judges.ranking.most", "max_answers"),
    Rename("judges.ranking.shots.*.mark", "label"),
    Rename("judges.rubrics.*.dimensions.*.marks", "scale"),
    Rename("judges.rubrics.*.marks", "scale"),
    Rename("judges.rubrics.*.shots.*.mark", "rating"),
    Rename("judges.signals.complexity.marks", "scale"),
    Rename("judges.signals.quality.marks", "scale"),
    Rename("prompts.synthesize.*.method.shown", "num_examples"),
    Rename("prompts.synthesize.*.sampling.enough", "stop_after_verified"),
    Rename("students.*.batch", "batch_size"),
    Rename("students.*.clip", "max_grad_norm"),
    Rename("students.*.micro_batch", "micro_batch_size"),
    Rename("students.*.warmup", "warmup_ratio"),
    Rename("teachers.models.*.sampling.enough", "stop_after_verified"),
    Rename("teachers.routes.*.nearest.least", "min_cosine"),
)
RENAMED_VALUES = (
    RenamedValue("judges.pools.rules.*.when.finish_reason.*", "unpaid", "budget_exhausted"),
    RenamedValue("students.*.curriculum", "tier", "confidence_tier"),
)
Node = Any
"""A mapping, list or plain value of a contract before it is validated."""


def promoted(raw: Node, at: str = "") -> tuple[Node, str]:
    """Return the older value `raw` at the contract's path `at` with the names of today, and its path today.

    Without `at`, `raw` is a whole contract. `raw` itself is not changed.
    """
    tree = copy.deepcopy(raw)
    keys = at.split(".") if at else []
    for key in reversed(keys):
        tree = {key: tree}
    for _ in _rename(tree):
        pass
    path = []
    for _ in keys:
        [(key, tree)] = tree.items()
        path.append(key)
    return tree, ".".join(path)


def renamed_in(raw: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], list[str]]:
    """Return a whole contract with the names of today, and one sentence for each older name that it had."""
    tree = copy.deepcopy(raw)
    return tree, sorted(_rename(tree))


def _rename(tree: Node) -> Iterator[str]:
    """Rename keys and values of `tree` in place; yield a sentence for each."""
    for rename in sorted(RENAMES, key=_depth, reverse=True):  # deepest first, while its parents still have their older names
        for section, key, path in list(_places(tree, rename.path.split("."))):
            if isinstance(section, dict):
                yield f"{path}: was renamed to {rename.name}."
                items = [(rename.name if name == key else name, value) for name, value in section.items()]
                section.clear()
                section.update(items)
    for rename in RENAMED_VALUES:
        for section, key, path in _places(tree, rename.path.split(".")):
            if section[key] == rename.old:
                yield f"{path}: the value {rename.old} was renamed to {rename.new}."
                section[key] = rename.new


def _depth(rename: Rename) -> int:
    return rename.path.count(".")


def _places(node: Node, parts: Sequence[str], parents: tuple[str, ...] = ()) -> Iterator[tuple[Node, Any, str]]:
    """Yield container, key or index, and path of every value below `node` that the path `parts` leads to."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        if parts[0] in ("*", str(key)):
            path = (*parents, str(key))
            if len(parts) == 1:
                yield node, key, ".".join(path)
            else:
                yield from _places(node[key], parts[1:], path)


def older_json(section: BaseModel, path: str, *, exclude: Collection[str] = ()) -> str:
    """Return `section.model_dump_json()` with its keys under their older names.

    Hashes of sections identify paid work, and were taken under the older names: they must not change with a name. `path` is where
    the section stands in the contract, such as `judges.rubrics.*`; `exclude` are keys of the section that are left out.
    """
    return to_json(_older(section.model_dump(mode="json", exclude=set(exclude)), path)).decode()


def _older(value: Any, path: str) -> Any:
    if isinstance(value, list):
        return [_older(item, f"{path}.*") for item in value]
    if not isinstance(value, dict):
        return next((renamed.old for renamed in RENAMED_VALUES if (renamed.path, renamed.new) == (path, value)), value)
    names = {rename.name: old for rename in RENAMES for parent, _, old in [rename.path.rpartition(".")] if parent == path}
    return {names.get(key, key): _older(item, f"{path}.{key}") for key, item in value.items()}
