"""Keys of the contract that have another name today, so that an older contract or record can be read or told what to write."""

from typing import NamedTuple


class Rename(NamedTuple):
    """A key that was renamed."""

    path: str
    """Where the older key stood; `*` stands for any index of a list or any key."""
    name: str
    """Its name today, at the same place."""


RENAMES = (
    Rename("judges.pools.rules.*.when.ending", "finish_reason"),
    Rename("judges.pools.rules.*.when.disagreement", "rubric_spread"),
    Rename("students.*.batch", "batch_size"),
    Rename("students.*.clip", "max_grad_norm"),
    Rename("students.*.micro_batch", "micro_batch_size"),
    Rename("students.*.warmup", "warmup_ratio"),
)
