"""Evaluation lists of the contract: read as sources are, and identified by hashes of their files."""

from engine.contract.contract import Contract
from engine.contract.prompts import Source
from engine.distributed.rows import Rows
from engine.prompts import files
from engine.runs.job import JobContext
from engine.storage.identity import file_identities

NO_LIMIT = 1 << 40  # characters: no text of a list is too long


def rows(context: JobContext) -> Rows | None:
    """Return the rows of all lists as sources.INGESTED, redacted as prompts are; None if there is no list.

    Raises:
        InputError: a list is missing, is empty, has an unknown ending, or lacks every column that is mapped.
    """
    from engine.prompts import flow  # imports Ray, which `hashes` does not need

    lists = context.contract.curation.decontaminate.lists
    if not lists:
        return None
    unit = context.contract.specialist.task_units[0].name
    sources = [
        ("holdout", unit, Source(path=item.path, licence="evaluation", columns=item.columns, damaged=item.damaged))
        for item in lists
    ]
    section = context.contract.prompts.model_copy(update={"max_chars": NO_LIMIT})
    source_files = files.source_files([*sources], root=context.root)
    found = flow.read(source_files, section, context.profile.cpu)
    flow.require_columns(found, source_files, context.profile.cpu)
    return found


def of_job(context: JobContext) -> dict[str, str]:
    """Return file -> hash for every list of the job's contract, so that a changed list is reported as a recipe mismatch."""
    return hashes(context.contract, context.root)


def hashes(contract: Contract, root: str) -> dict[str, str]:
    """Return file -> hash of its content, of all lists of `contract`; relative paths start at `root`."""
    return file_identities({item.path for item in contract.curation.decontaminate.lists}, root=root)
