"""Keys of the contract that have another name today, so that an older contract or record can be read or told what to write."""

from collections.abc import Collection
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import to_json


class Rename(NamedTuple):
    """A key that was renamed."""

    path: str
    """Where the older key stood; `*` stands for any index of a list or any key."""
    name: str
    """Its name today, at the same place."""


RENAMES = (
    Rename("curation.boundary.*.sampling.enough", "stop_after_verified"),
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
    Rename("prompts.synthesize.*.sampling.enough", "stop_after_verified"),
    Rename("teachers.models.*.sampling.enough", "stop_after_verified"),
    Rename("teachers.routes.*.nearest.least", "min_cosine"),
)


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
        return value
    names = {rename.name: old for rename in RENAMES for parent, _, old in [rename.path.rpartition(".")] if parent == path}
    return {names.get(key, key): _older(item, f"{path}.{key}") for key, item in value.items()}
