"""Evaluation lists of the contract: read as sources are, and identified by hashes of their files."""

from dataclasses import replace

from engine.contract.contract import Contract
from engine.contract.prompts import Source
from engine.distributed.rows import Rows
from engine.errors import InputError
from engine.prompts import files
from engine.runs.job import JobContext
from engine.storage.identity import file_identities

NO_LIMIT = 1 << 40  # characters: no text of a list is too long


def rows(context: JobContext) -> Rows | None:
    """Return the rows of all lists as sources.INGESTED, redacted as prompts are; None if there is no list.

    A row without a reference counts with its prompt alone. One that is no prompt is compared with nothing: the job warns of it.

    Raises:
        InputError: a list is missing, is empty, has an unknown ending, lacks every column that is mapped, or has no valid row.
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
    source_files = [replace(file, may_lack_reference=True) for file in files.source_files([*sources], root=context.root)]
    found = flow.read(source_files, section, context.profile.cpu)
    flow.require_columns(found, source_files, context.profile.cpu)
    counts = flow.count_rejects(found, context.profile.cpu)
    pairs = [(*key.rpartition("|"), rows) for key, rows in sorted(counts["rejected"].items())]
    rejected = ", ".join(f"{rows} {reason} of {file}" for file, _, reason, rows in pairs)
    if nothing := [item.path for item in lists if not counts["valid"][item.path]]:
        raise InputError(
            f"curation.decontaminate.lists: {nothing[0]}: found no row that is a prompt, expected at least one. Left out: "
            f"{rejected}. Correct the rows, or `columns` of the list in the contract."
        )
    if rejected:
        context.writer.warnings.append(
            f"{context.job.name}: rows of evaluation lists are no prompts, so nothing is compared with them: {rejected}"
        )
    return found


def of_job(context: JobContext) -> dict[str, str]:
    """Return file -> hash for every list of the job's contract, so that a changed list is reported as a recipe mismatch."""
    return hashes(context.contract, context.root)


def hashes(contract: Contract, root: str) -> dict[str, str]:
    """Return file -> hash of its content, of all lists of `contract`; relative paths start at `root`."""
    return file_identities({item.path for item in contract.curation.decontaminate.lists}, root=root)
