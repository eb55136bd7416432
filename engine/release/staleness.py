"""Checks that the decontamination report concerns what is released: its training set, its holdout, today's evaluation lists."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Compared(NamedTuple):
    """What a training set was compared with, from the dataset's metrics."""

    holdout: str
    """Digest of the holdout."""
    lists: Mapping[str, str]
    """Evaluation list -> hash of its file."""


class ArtifactInputs(NamedTuple):
    """Fingerprint of an artifact and of the artifacts it was made from."""

    fingerprint: str
    inputs: Mapping[str, str]
    """Artifact -> fingerprint."""


def stale(compared: Compared | None, *, holdout: str, lists: Mapping[str, str]) -> Iterator[str]:
    """Yield each reason why `compared` does not cover the release; `compared` is None if the training set was never compared.

    `holdout` is the digest of the holdout that the report was made on. `lists` maps the contract's evaluation lists to the hashes
    of their files today, or to `missing`.
    """
    if compared is None:
        yield "the training set was never compared with the holdout"
        return
    if compared.holdout != holdout:
        yield "the training set was compared with another holdout than the models were evaluated on"
    for name in sorted({*compared.lists, *lists}):
        if name not in compared.lists:
            yield f"the training set was not compared with the evaluation list {name}"
        elif name not in lists:
            yield f"the evaluation list {name} is no longer in the contract"
        elif lists[name] == "missing":
            yield f"the evaluation list {name} cannot be found, so it is unknown whether it has changed"
        elif lists[name] != compared.lists[name]:
            yield f"the evaluation list {name} has changed since"


def mismatched_inputs(student: str, artifacts: Mapping[str, ArtifactInputs]) -> Iterator[str]:
    """Yield each artifact that was made from another `dataset` or `prompts` than the run holds."""
    for job, inputs in ((student, ("dataset",)), ("dataset", ("prompts",)), ("reports", ("prompts", "dataset"))):
        for name in inputs:
            if artifacts[job].inputs.get(name) != artifacts[name].fingerprint:
                yield f"{job} was made from another {name} than the run holds"
