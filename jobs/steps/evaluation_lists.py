"""Evaluation lists that the contract names: read as sources are, and known by the hashes of their files."""

from typing import Any

from engine.contract import Contract
from engine.contract.prompts import Source
from engine.prompts import files
from engine.runs.job import JobContext

NO_LIMIT = 1 << 40  # characters: a list is never too long to stay unknown


def rows(context: JobContext) -> Any:
    """Return the rows of all lists as a dataset of room 1 (sources.WORK), redacted as prompts are; None if there is no list.

    Raises:
        InputError: a list is missing, empty, of an unknown ending, or lacks every column that is mapped.
    """
    from engine.prompts import flow  # Ray: whoever only asks whether the lists have changed does not wait for it

    lists = context.contract.curation.decontaminate.lists
    if not lists:
        return None
    unit = context.contract.specialist.task_units[0].name
    sources = [("holdout", unit, Source(path=one.path, licence="evaluation", columns=one.columns)) for one in lists]
    section = context.contract.prompts.model_copy(update={"max_chars": NO_LIMIT})
    return flow.read(files.slices([*sources], root=context.root), section, context.profile.cpu)


def of_job(context: JobContext) -> dict[str, Any]:
    """Return what identifies the content of every list, so that a changed one is named as drift."""
    return hashes(context.contract, context.root)


def hashes(contract: Contract, root: str) -> dict[str, str]:
    """Return file -> hash over all lists of `contract`, whose relative paths start at `root`."""
    paths = sorted({one.path for one in contract.curation.decontaminate.lists})
    return {name: hash for path in paths for name, hash in files.identity(path, root=root).items()}
