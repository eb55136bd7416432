"""From embeddings to dispositions: contamination by embedding, semantic duplicates, topic clusters, the 2-D map, and the picks."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.contract.signals import SIGNALS
from engine.curation.contamination import CONTAMINATION, by_embedding
from engine.curation.dispositions import DISPOSITION
from engine.curation.measure import STRATA, means, selection
from engine.curation.ngram_index import PROTECTED
from engine.curation.samples import BEST_FIRST
from engine.curation.select import Eligible, round_robin_rank, select
from engine.curation.topics import Topics, project_2d, topic_clusters, typical_words
from engine.dedup.leaders import semantic_leaders
from engine.dedup.vectors import matrix
from engine.records.dataset import Selection, TopicCluster


class Decided(NamedTuple):
    """The dispositions of all embedded rows, and their metrics."""

    dispositions: pa.Table  # DISPOSITION
    clusters: tuple[TopicCluster, ...]
    contamination: pa.Table  # CONTAMINATION, by embedding
    selection: Selection | None  # None if there are no embedded rows


def decide(embedded: pa.Table, section: Curation, protected: pa.Table | None = None) -> Decided:
    """Return the disposition, the topic cluster and the map position of every row of EMBEDDED, which is given whole, in any order.

    `protected` is PROTECTED with `embedding`; None if nothing is compared with it by embedding.
    """
    if not embedded.num_rows or section.semantic is None:
        return Decided(DISPOSITION.empty_table(), (), CONTAMINATION.empty_table(), None)
    rows = embedded.sort_by("prompt_id")
    vectors = matrix(rows["embedding"])
    resemblance = by_embedding(rows, PROTECTED.empty_table() if protected is None else protected, section.decontaminate)
    is_contaminated = resemblance["is_contaminated"].to_numpy()
    order = pc.sort_indices(rows, sort_keys=BEST_FIRST).to_numpy()
    leader, similarity = semantic_leaders(vectors, order[~is_contaminated[order]], threshold=section.semantic.threshold)
    stays = (leader == np.arange(len(leader))) & ~is_contaminated
    topics = topic_clusters(vectors, count=section.pick.clusters, seed=section.seed)
    eligible, kept = _eligible(rows, vectors, topics), np.flatnonzero(stays)
    is_picked = np.zeros(len(leader), bool)
    is_picked[kept[select(_kept(eligible, kept, rows, topics), section.pick)]] = True
    answer_id, position = rows["answer_id"].combine_chunks(), project_2d(vectors)
    reason = np.where(is_picked, "", np.where(is_contaminated, "contaminated", np.where(stays, "quota", "semantic")))
    lost_to = pc.if_else(resemblance["is_contaminated"], resemblance["id"], answer_id.take(pa.array(leader)))
    cosine = np.where(is_contaminated, resemblance["similarity"].to_numpy(), similarity)
    columns = {
        "answer_id": answer_id,
        "dropped_by": pa.array(reason.tolist(), pa.string()),
        "duplicate_of": pc.if_else(pa.array(stays), "", lost_to),
        "similarity": pa.array(cosine, pa.float32(), mask=stays),
        "cluster": pa.array(topics.number),
        "x": pa.array(position[:, 0]),
        "y": pa.array(position[:, 1]),
    }
    clusters = _describe(rows["text"].to_pylist(), eligible, is_picked)
    return Decided(pa.table(columns, schema=DISPOSITION), clusters, resemblance, selection(eligible, is_picked))


def _eligible(rows: pa.Table, vectors: np.ndarray, topics: Topics) -> Eligible:
    """Return all rows, without round-robin ranks: only the rows that stay are ranked."""
    strata = {stratum: pc.fill_null(rows[stratum], "").to_pylist() for stratum in STRATA if stratum != "cluster"}
    strata["cluster"] = topics.number.astype(str).tolist()
    mean_nll = pc.fill_null(rows["mean_nll"], 0.0).to_numpy()
    signals = {name: pc.fill_null(rows[name], np.nan).to_numpy() for name in SIGNALS}
    return Eligible(vectors, np.zeros(len(vectors), np.int64), topics.number, mean_nll, strata, signals)


def _kept(rows: Eligible, kept: np.ndarray, table: pa.Table, topics: Topics) -> Eligible:
    scenario = table["scenario"].take(pa.array(kept)).to_pylist()
    return Eligible(
        rows.vectors[kept],
        round_robin_rank(topics.number[kept], topics.closeness[kept], scenario),
        topics.number[kept],
        rows.mean_nll[kept],
        {stratum: [values[row] for row in kept.tolist()] for stratum, values in rows.strata.items()},
        {name: values[kept] for name, values in rows.signals.items()},
    )


def _describe(texts: list[str], rows: Eligible, is_picked: np.ndarray) -> tuple[TopicCluster, ...]:
    labels = typical_words(texts, rows.cluster)
    return tuple(
        TopicCluster(
            cluster=number,
            rows=int((rows.cluster == number).sum()),
            picked=int((is_picked & (rows.cluster == number)).sum()),
            label=labels[number],
            signals=means(rows, rows.cluster == number),
        )
        for number in sorted(labels)
    )
