"""Is the report of decontamination about what is to be released: its training set, its holdout, the lists of today."""

from collections.abc import Iterator, Mapping
from typing import Any

Records = Mapping[str, Mapping[str, Any]]
"""Job -> `fingerprint` and `inputs` (job -> fingerprint) of its artifact."""


def stale(told: Mapping[str, Any] | None, *, holdout: str, lists: Mapping[str, str]) -> Iterator[str]:
    """Yield each reason why `told`, facts.decontamination of the training set, says nothing of the release.

    `holdout` is the digest of the holdout that the report examined, `lists` are the contract's evaluation lists by their hashes.
    """
    if told is None:
        yield "the training set was never compared with the holdout"
        return
    if told["holdout"] != holdout:
        yield "the training set was compared with another holdout than the models were examined on"
    before: Mapping[str, str] = told["files"]
    for name in sorted({*before, *lists}):
        if name not in before:
            yield f"the training set was not compared with the evaluation list {name}"
        elif name not in lists:
            yield f"the evaluation list {name} is no longer in the contract"
        elif lists[name] == "missing":
            yield f"the evaluation list {name} cannot be found, so nobody can say whether it has changed"
        elif lists[name] != before[name]:
            yield f"the evaluation list {name} has changed since"


def apart(student: str, records: Records) -> Iterator[str]:
    """Yield each pair of artifacts that do not belong together: made from another `dataset` or `prompts` than lies there."""
    for job, needs in ((student, ("dataset",)), ("dataset", ("prompts",)), ("reports", ("prompts", "dataset"))):
        for needed in needs:
            if records[job]["inputs"].get(needed) != records[needed]["fingerprint"]:
                yield f"{job} was made from another {needed} than lies in the run"
