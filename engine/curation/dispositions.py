"""The disposition of a row: kept, or dropped for a reason and in favour of another row; and the counts of all dispositions."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from engine.records.dataset import StageCounts

STAGES = tuple(StageCounts.model_fields)
SIBLING = "sibling"  # of an answer that is kept together with a better one to its prompt, until `follow`; no drop reason
DISPOSITION = pa.schema(  # about 120 bytes a row
    [
        ("answer_id", pa.string()),
        ("dropped_by", pa.string()),  # one of rows.DROPPED_BY, or SIBLING
        ("duplicate_of", pa.string()),
        ("similarity", pa.float32()),
        ("cluster", pa.int32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
    ]
)
Coverage = Mapping[str, Mapping[str, StageCounts]]
"""`layer` or `difficulty` -> value -> prompts by stage."""
KEPT = {"dropped_by": "", "duplicate_of": "", "cluster": -1}  # of a kept row without embedding, which has no disposition


def of_answers(answer_ids: pa.ChunkedArray, parts: Sequence[pa.Table]) -> pa.Table:
    """Return DISPOSITION of those of `answer_ids` that have one in a table of `parts`, in any order."""
    wanted = answer_ids.combine_chunks()
    found = [rows.filter(pc.is_in(rows["answer_id"], wanted)) for rows in parts]
    return pa.concat_tables([DISPOSITION.empty_table(), *found]).combine_chunks()


def dropped_ids(dispositions: pa.Table) -> pa.Array:
    """Return the answer_ids of the rows that are dropped."""
    return dispositions.filter(pc.not_equal(dispositions["dropped_by"], ""))["answer_id"].combine_chunks()


def without_embedding(rows: pa.Table) -> pa.Table:
    """Return DISPOSITION from its first four columns: no cluster and no position on the map."""
    rows = rows.append_column("cluster", pa.repeat(pa.scalar(-1, pa.int32()), len(rows)))
    for name in ("x", "y"):
        rows = rows.append_column(name, pa.nulls(len(rows), pa.float32()))
    return rows.cast(DISPOSITION)


def follow(dispositions: pa.Table) -> pa.Table:
    """Return `dispositions` in which each SIBLING has the disposition of the answer that it follows."""
    is_sibling = pc.equal(dispositions["dropped_by"], SIBLING)
    siblings = dispositions.filter(is_sibling)
    if not len(siblings):
        return dispositions
    followed = dispositions.take(pc.index_in(siblings["duplicate_of"], dispositions["answer_id"].combine_chunks()))
    columns = {name: followed[name] for name in dispositions.column_names[1:]}
    columns |= {name: pc.fill_null(columns[name], value) for name, value in KEPT.items()}
    return pa.concat_tables([dispositions.filter(pc.invert(is_sibling)), pa.table({"answer_id": siblings["answer_id"], **columns})])


def coverage(entries: pa.Table, dispositions: pa.Table) -> Coverage:
    """Return the prompts that were asked, accepted and picked, for each value of `layer` and `difficulty`; each prompt is whole."""
    rows = entries.sort_by("answer_id").select(["answer_id", "prompt_id", "layer", "difficulty", "dropped_by"])
    accepted = rows.filter(pc.invert(pc.is_in(rows["dropped_by"], pa.array(["pool", "sample"]))))
    picked = rows.filter(pc.invert(pc.is_in(rows["answer_id"], dropped_ids(dispositions))))
    prompts = rows.group_by("prompt_id", use_threads=False).aggregate([("layer", "first"), ("difficulty", "first")])
    prompts = prompts.rename_columns({"layer_first": "layer", "difficulty_first": "difficulty"})
    stages = {"prompts": prompts, "accepted": accepted, "picked": picked}
    return {column: _counts(stages, column) for column in ("layer", "difficulty")}


def total(coverages: Sequence[Coverage]) -> dict[str, dict[str, StageCounts]]:
    """Return the sums of `coverages` of disjoint prompts."""
    sums: dict[str, dict[str, StageCounts]] = {}
    for column in ("layer", "difficulty"):
        pairs = [pair for each in coverages for pair in each[column].items()]
        of_value: dict[str, list[StageCounts]] = {}
        for value, counts in pairs:
            of_value.setdefault(value, []).append(counts)
        sums[column] = {
            value: StageCounts(**{stage: sum(getattr(each, stage) for each in counts) for stage in STAGES})
            for value, counts in sorted(of_value.items())
        }
    return sums


def _counts(stages: dict[str, pa.Table], column: str) -> dict[str, StageCounts]:
    pairs = {stage: pc.value_counts(rows[column]).to_pylist() for stage, rows in stages.items()}
    counts = {stage: {pair["values"]: pair["counts"] for pair in counted} for stage, counted in pairs.items()}
    names = sorted({name for of_stage in counts.values() for name in of_stage})
    return {name: StageCounts(**{stage: of_stage.get(name, 0) for stage, of_stage in counts.items()}) for name in names}
