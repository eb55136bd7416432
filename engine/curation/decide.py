"""From embeddings to dispositions, in functions that each see one shard of the rows: contamination by embedding, the columns that
picking reads, and the disposition and the measures of every row. `decide_flow` puts them together.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import SIGNALS_OF_ORDER, Curation, Pick
from engine.contract.signals import SIGNALS
from engine.curation import topics
from engine.curation.contamination import COLUMNS, Resemblance, by_embedding, counted
from engine.curation.dispositions import DISPOSITION
from engine.curation.embedder import EMBEDDED
from engine.curation.measure import STRATA, Measures, measured
from engine.curation.select import Eligible, Strings, quotas_of, round_robin_rank
from engine.curation.vector_shards import Vectors
from engine.dedup.leaders import Leaders
from engine.dedup.vectors import matrix

REST = pa.schema([field for field in EMBEDDED if field.name not in COLUMNS.values()])  # about 600 bytes a row
CODE = pa.dictionary(pa.int32(), pa.string())
LOOKS_AT_VECTORS = ("k_center", "facility_location", "information")  # orders of picking


class Shard(NamedTuple):
    """The rows of a range of prompt_ids, sorted by prompt_id."""

    rows: pa.Table  # REST
    vectors: np.ndarray  # unit, (rows, dimensions)
    resemblance: pa.Table  # CONTAMINATION by embedding


class Placed(NamedTuple):
    """The topic cluster of each row of a shard, numbered as the centres are, and what the map needs of the shard."""

    label: np.ndarray
    closeness: np.ndarray  # cosine to the centre, float32
    scatter: np.ndarray  # topics.scatter


class Frame(NamedTuple):
    """What all rows have in common: the numbers of clusters, the map, and the rows that stand for all."""

    numbers: np.ndarray  # topics.numbers_by_size
    mean: np.ndarray  # (dimensions,)
    axes: np.ndarray  # topics.principal_axes
    landmarks: np.ndarray  # their vectors


class Lost(NamedTuple):
    """Which rows of a shard lose to another row, by position in the shard."""

    row: np.ndarray
    to: pa.Array  # answer_id
    similarity: np.ndarray


def shard_of(pieces: list[pa.Table], protected: pa.Table, section: Curation) -> Shard:
    """Return the shard made of `pieces` of EMBEDDED; `protected` is PROTECTED with `embedding`, or empty."""
    rows = pa.concat_tables([EMBEDDED.empty_table(), *pieces]).sort_by("prompt_id")
    return Shard(rows.select(REST.names), matrix(rows["embedding"]), by_embedding(rows, protected, section.decontaminate))


def place(vectors: np.ndarray, centres: np.ndarray, mean: np.ndarray) -> Placed:
    """Return the clusters of a shard; `mean` is that of all rows."""
    return Placed(*topics.nearest_centre(vectors, centres), topics.scatter(vectors, mean))


def lost_to_leaders(found: Leaders, answer_id: pa.Array) -> Lost:
    """Return the rows that have a leader other than themselves; all rows are in one shard."""
    row = np.flatnonzero(found.leader != np.arange(len(found.leader)))
    return Lost(row, answer_id.take(pa.array(found.leader[row])), found.similarity[row])


def lost_to_duplicates(duplicates: list[pa.Table], answer_id: pa.Array) -> Lost:
    """Return the rows of a shard with these answer_ids that are among its `duplicates` (id, duplicate_of, similarity)."""
    every = pa.concat_tables([piece.select(["id", "duplicate_of", "similarity"]) for piece in duplicates])
    row = pc.index_in(every["id"].cast(pa.string()), answer_id).to_numpy().astype(np.int64)
    return Lost(row, every["duplicate_of"].cast(pa.string()).combine_chunks(), every["similarity"].to_numpy().astype(np.float32))


def stays(shard: Shard, lost: Lost) -> np.ndarray:
    """Return a mask of the rows that are neither contaminated nor duplicates."""
    mask = ~shard.resemblance["is_contaminated"].to_numpy()
    mask[lost.row] = False
    return mask


def pickable(shard: Shard, placed: Placed, numbers: np.ndarray, among: np.ndarray, pick: Pick) -> pa.Table:
    """Return what picking reads of the rows `among`, 20 to 40 bytes a row: cluster, closeness, scenario, and by contract the
    strata with quotas and the signals of the order.
    """
    rows, cluster = shard.rows.filter(pa.array(among)), numbers[placed.label[among]]
    columns = {"number": pa.array(cluster), "closeness": pa.array(placed.closeness[among]), "scenario": _code(rows["scenario"])}
    columns |= {stratum: _code(rows[stratum]) for stratum in quotas_of(pick) if stratum != "cluster"}
    if "cluster" in quotas_of(pick):
        columns["cluster"] = _code(pa.chunked_array([pa.array(cluster).cast(pa.string())]))
    columns |= {name: pc.fill_null(rows[name], np.nan) for name in SIGNALS_OF_ORDER.get(pick.order, ())}
    if pick.order == "information":
        columns["mean_nll"] = pc.fill_null(rows["mean_nll"], 0.0)
    return pa.table(columns)


def scorable(rows: pa.Table, vectors: Vectors, pick: Pick) -> Eligible:
    """Return rows of `pickable` without what needs all of them; without vectors where the order does not look at them."""
    mean_nll = rows["mean_nll"].to_numpy() if "mean_nll" in rows.column_names else np.zeros(len(rows), np.float32)
    strata: dict[str, Strings] = {stratum: rows[stratum] for stratum in quotas_of(pick)}
    signals = {name: rows[name].to_numpy() for name in SIGNALS_OF_ORDER.get(pick.order, ())}
    return Eligible(vectors, np.zeros(len(rows), np.int64), rows["number"].to_numpy(), mean_nll, strata, signals)


def eligible(rows: pa.Table, vectors: Vectors, pick: Pick) -> Eligible:
    """Return the rows that may be picked, from `pickable` of all shards; without vectors where the order does not look at them."""
    found = scorable(rows, vectors, pick)
    ranks = round_robin_rank(found.cluster, rows["closeness"].to_numpy(), rows["scenario"])
    return found._replace(round_robin_rank=ranks)


def dispositions(shard: Shard, placed: Placed, frame: Frame, lost: Lost, is_picked: np.ndarray) -> pa.Table:
    """Return DISPOSITION of the rows of a shard, in their order."""
    answer_id, mask = shard.rows["answer_id"].combine_chunks(), stays(shard, lost)
    is_contaminated = shard.resemblance["is_contaminated"].to_numpy()
    reason = np.where(is_picked, "", np.where(is_contaminated, "contaminated", np.where(mask, "quota", "semantic")))
    at = np.full(len(mask), -1)
    at[lost.row] = np.arange(len(lost.row))
    lost_to = lost.to.take(pa.array(at, mask=at < 0))
    lost_to = pc.if_else(shard.resemblance["is_contaminated"], shard.resemblance["id"], lost_to)
    cosine = shard.resemblance["similarity"].to_numpy().copy()
    cosine[lost.row] = lost.similarity
    position = topics.project(shard.vectors, frame.mean, frame.axes)
    columns = {
        "answer_id": answer_id,
        "dropped_by": pa.array(reason.tolist(), pa.string()),
        "duplicate_of": pc.if_else(pa.array(mask), "", lost_to),
        "similarity": pa.array(cosine, pa.float32(), mask=mask),
        "cluster": pa.array(frame.numbers[placed.label]),
        "x": pa.array(position[:, 0]),
        "y": pa.array(position[:, 1]),
    }
    return pa.table(columns, schema=DISPOSITION)


def measures(shard: Shard, placed: Placed, frame: Frame, is_picked: np.ndarray) -> tuple[Measures, Resemblance]:
    """Return the measures of a shard, and the counts of its contamination by embedding."""
    cluster = frame.numbers[placed.label]
    strata: dict[str, Strings] = {
        stratum: pc.fill_null(shard.rows[stratum], "").to_pylist() for stratum in STRATA if stratum != "cluster"
    }
    strata["cluster"] = cluster.astype(str).tolist()
    mean_nll = pc.fill_null(shard.rows["mean_nll"], 0.0).to_numpy()
    signals = {name: pc.fill_null(shard.rows[name], np.nan).to_numpy() for name in SIGNALS}
    rows = Eligible(shard.vectors, np.zeros(len(cluster), np.int64), cluster, mean_nll, strata, signals)
    picked = shard.rows["answer_id"].combine_chunks().filter(pa.array(is_picked))
    return measured(rows, is_picked, frame.mean, frame.landmarks), counted(shard.resemblance, picked)


def _code(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(values, "").dictionary_encode().cast(CODE)
