"""Files of the cost model: the coefficients that are shipped, or those that `rayleigh bench scale --out` wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from engine.errors import InputError
from engine.prompts.files import SourceFile, source_files
from engine.prompts.flow import BYTES_PER_TASK
from engine.prompts.sources import INGESTED, identify, prompts
from engine.records.base import Record
from engine.records.scale import ScaleModel
from jobs import workspace
from jobs.places import PROFILES
from jobs.workspace import Workspace

BLOCK_BYTES = 128 << 20  # at which Ray Data cuts the rows of a file: the default of DataContext.target_max_block_size
FEWEST_BYTES = 100.0  # of a row of INGESTED: its ids, its key and where it is from
SHIPPED = PROFILES.parent / "scale.json"
R = TypeVar("R", bound=Record)


class NamedModel(NamedTuple):
    """Coefficients, and the name of their file."""

    name: str
    model: ScaleModel


def load_model(path: str | None) -> NamedModel:
    """Return the coefficients in the file `path`, by default those that are shipped.

    Raises:
        InputError: the file cannot be read, or holds no coefficients.
    """
    model = read_record(path or str(SHIPPED), ScaleModel, "coefficients")
    return NamedModel(path or "cluster/scale.json", model)


def rows_per_block(work: Workspace) -> float:
    """Return the prompts of a block in which `work` searches copies, in any number of source files as large as the contract's.

    A block is a file, or BYTES_PER_TASK of smaller ones (`engine.prompts.flow`), but at most BLOCK_BYTES of rows as they are in
    memory. The prompts of `work` are finished.
    """
    section, read = work.contract.prompts, workspace.finished(work.folder, "prompts").record.row_counts.rows_in
    files = source_files([("train", "", source) for source in section.sources], root=work.root)
    train = sum(file.bytes for file in files)
    held = sum(file.bytes for file in source_files([("holdout", "", section.holdout)], root=work.root))
    bytes_of_row = max(1.0, (train + held) / max(1, read))
    of_file = max(BYTES_PER_TASK, train / len(files)) / bytes_of_row
    return max(1.0, min(of_file, BLOCK_BYTES / _ingested_bytes(files, max_chars=section.max_chars)))


def _ingested_bytes(files: Sequence[SourceFile], *, max_chars: int) -> float:
    """Return the bytes of a row of INGESTED, as its tables count them: the mean of the first rows of each source's largest file."""
    largest = {file.section: file for file in sorted(files, key=lambda file: file.bytes)}.values()
    heads = [identify(next(prompts(file, max_chars=max_chars), INGESTED.empty_table())) for file in largest]
    return max(FEWEST_BYTES, sum(head.nbytes for head in heads) / max(1, sum(map(len, heads))))


def read_record(path: str, kind: type[R], what: str) -> R:
    """Return the record of class `kind` in the JSON file `path`; messages call it `what`.

    Raises:
        InputError: the file cannot be read, or holds no such record.
    """
    try:
        return kind.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(
            f"{what}: {path} cannot be read: {error.strerror}. Give a file that `rayleigh bench scale` wrote."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{what}: {path} is no {kind.__name__}: {where or 'the file'}: {first['msg']}. Coefficients are what `rayleigh bench "
            "scale --out FILE` writes, and --with takes what `--json` printed."
        ) from None
