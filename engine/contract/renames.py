"""Keys of the contract that have another name today, so that an older contract or record can be read or told what to write."""

from typing import NamedTuple


class Rename(NamedTuple):
    """A key that was renamed."""

    path: str
    """Where the older key stood; `*` stands for any index of a list or any key."""
    name: str
    """Its name today, at the same place."""


RENAMES = (
    Rename("curation.answers.most", "max_per_prompt"),
    Rename("curation.boundary", "contrastive"),
    Rename("curation.boundary.*.ask", "prompt_template"),
    Rename("curation.boundary.*.fails", "reply_if_wrong"),
    Rename("curation.boundary.*.holds", "reply_if_right"),
    Rename("curation.boundary.*.say", "feedback_template"),
    Rename("curation.boundary.*.says", "reply_template"),
    Rename("curation.boundary_share", "contrastive_share"),
    Rename("curation.preferences.most", "max_per_prompt"),
    Rename("judges.pools.rules.*.when.ending", "finish_reason"),
    Rename("judges.pools.rules.*.when.disagreement", "rubric_spread"),
)
