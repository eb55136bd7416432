"""The evaluation lists of the contract: their rows, and the hashes of their files."""

from typing import TYPE_CHECKING

from engine.contract import Contract
from engine.contract.prompts import Source
from engine.prompts import files
from engine.runs.job import JobContext

if TYPE_CHECKING:
    from ray.data import Dataset

NO_LIMIT = 1 << 40  # characters: no text of a list is too long to be compared


def rows(context: JobContext) -> "Dataset | None":
    """Return the rows of all lists as `prompts.flow.read` returns sources, redacted like prompts; None without lists.

    Raises:
        InputError: a list is missing, empty, of an unknown format, or has none of the mapped columns.
    """
    from engine.prompts import flow  # imports Ray, which `hashes` does not need

    lists = context.contract.curation.decontaminate.lists
    if not lists:
        return None
    unit = context.contract.specialist.task_units[0].name
    sources = [("holdout", unit, Source(path=one.path, licence="evaluation", columns=one.columns)) for one in lists]
    section = context.contract.prompts.model_copy(update={"max_chars": NO_LIMIT})
    return flow.read(files.slices([*sources], root=context.root), section, context.profile.cpu)


def of_job(context: JobContext) -> dict[str, str]:
    """Return file -> hash of its content, of all lists of the job's contract."""
    return hashes(context.contract, context.root)


def hashes(contract: Contract, root: str) -> dict[str, str]:
    """Return file -> hash of its content, of all lists of `contract`; relative paths start at `root`."""
    paths = sorted({one.path for one in contract.curation.decontaminate.lists})
    return {name: hash for path in paths for name, hash in files.identity(path, root=root).items()}
