"""Keys of the contract that have another name today, so that an older contract or record can be read or told what to write."""

from typing import NamedTuple


class Rename(NamedTuple):
    """A key that was renamed."""

    path: str
    """Where the older key stood; `*` stands for any index of a list or any key."""
    name: str
    """Its name today, at the same place."""


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
    Rename("judges.pools.rules.*.when.ending", "finish_reason"),
    Rename("judges.pools.rules.*.when.disagreement", "rubric_spread"),
    Rename("prompts.synthesize.*.method.shown", "num_examples"),
)
