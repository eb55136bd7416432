"""The prompts that a release learnt from, so that a withdrawal finds them: `learnt.parquet` in the release.

Rows are sorted by id and lie in row groups with their first and last id, so that an id is found by reading one group; the counts by
source and licence are in the file's metadata.
"""

import io
import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.contract.prompts import Withdrawn
from engine.errors import StorageError
from engine.storage.folder import Folder

FILE = "learnt.parquet"
LEARNT = pa.schema([("prompt_id", pa.string()), ("source", pa.string()), ("line", pa.int64()), ("licence", pa.string())])
COLUMNS = (*LEARNT.names, "parent_id")  # of PROMPT
GROUP_ROWS = 4096
COUNTS = b"counts"


def learnt(examples: pa.Table, prompts: pa.Table) -> pa.Table:
    """Return LEARNT: the prompts, COLUMNS, of the `examples`, and those from which they were synthesized, sorted by id."""
    rows = prompts.filter(pc.is_in(prompts["prompt_id"], pc.unique(examples["prompt_id"])))
    while True:
        parents = prompts.filter(pc.is_in(prompts["prompt_id"], pc.unique(rows["parent_id"])))
        parents = parents.filter(pc.invert(pc.is_in(parents["prompt_id"], pc.unique(rows["prompt_id"]))))
        if not len(parents):
            return rows.select(LEARNT.names).cast(LEARNT).sort_by("prompt_id")
        rows = pa.concat_tables([rows, parents])


def write(rows: pa.Table) -> bytes:
    """Return `rows`, LEARNT, as the file of a release."""
    counts = {name: Counter(rows[name].to_pylist()) for name in ("source", "licence")}
    buffer = io.BytesIO()
    rows = rows.replace_schema_metadata({COUNTS: json.dumps(counts).encode()})
    options: Any = {"row_group_size": GROUP_ROWS, "use_dictionary": ["source", "licence"]}  # pyarrow's stubs know a bool alone
    pq.write_table(rows, buffer, compression="zstd", **options)
    return buffer.getvalue()


def read(release: Folder) -> pa.Table:
    """Return LEARNT of a release that has the list.

    Raises:
        StorageError: the list is damaged.
    """
    try:
        with release.open(FILE) as file:
            return pq.ParquetFile(file).read(columns=LEARNT.names, use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{release}/{FILE}: is damaged: {error}. Promote the student again from its run.") from None


def held(release: Folder, order: Withdrawn) -> int | None:
    """Return how many rows of a release `order` names; None if the release was made before they were listed.

    Raises:
        StorageError: the list is damaged.
    """
    if not release.exists(FILE):
        return None
    try:
        with release.open(FILE) as file:
            return count(pq.ParquetFile(file), order)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{release}/{FILE}: is damaged: {error}. Promote the student again from its run.") from None


def count(file: pq.ParquetFile, order: Withdrawn) -> int:
    """Return how many rows of the file `order` names."""
    if order.prompt is None:
        counts = json.loads(file.schema_arrow.metadata[COUNTS])
        return counts["licence"].get(order.licence, 0) if order.licence is not None else counts["source"].get(order.source, 0)
    for number in range(file.num_row_groups):
        bounds = file.metadata.row_group(number).column(0).statistics
        if bounds.min <= order.prompt <= bounds.max:
            return int(pc.sum(pc.equal(file.read_row_group(number, columns=["prompt_id"])["prompt_id"], order.prompt)).as_py())
    return 0
