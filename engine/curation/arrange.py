"""From embeddings to decisions: near-duplicates by meaning, clusters, the map, and who is picked."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation.cluster import cluster, leaders, map_of, typical_words
from engine.curation.copies import DECISION
from engine.curation.pick import BEST_FIRST, representatives


class Arranged(NamedTuple):
    """Decisions over all embedded rows, and what the clusters are about."""

    decisions: pa.Table  # DECISION
    clusters: list[dict[str, Any]]  # cluster, rows, picked, label


def arrange(embedded: pa.Table, section: Curation) -> Arranged:
    """EMBEDDED, whole and in any order, in; every row has a decision, a cluster and a place on the map."""
    if not embedded.num_rows or section.semantic is None:
        return Arranged(DECISION.empty_table(), [])
    rows = embedded.sort_by("prompt_id")
    vectors = np.stack(rows["embedding"].to_numpy())
    order = pc.sort_indices(rows, sort_keys=BEST_FIRST).to_numpy()
    leader, similarity = leaders(vectors, order, threshold=section.semantic.threshold)
    is_leader = leader == np.arange(len(leader))
    found = cluster(vectors, count=section.pick.clusters, seed=section.seed)
    scenario = rows["scenario"].to_pylist()
    kept = np.flatnonzero(is_leader)
    stands = representatives(
        found.number[kept], found.closeness[kept], [scenario[row] for row in kept], per_cluster=section.pick.per_cluster
    )
    is_picked = np.zeros(len(leader), bool)
    is_picked[kept[stands]] = True
    reason = np.where(is_picked, "", np.where(is_leader, "quota", "semantic"))
    answer_id = rows["answer_id"].to_pylist()
    places = map_of(vectors)
    decisions = pa.table(
        {
            "answer_id": answer_id,
            "dropped_by": reason.tolist(),
            "rep_id": ["" if stays else answer_id[to] for to, stays in zip(leader, is_leader, strict=True)],
            "similarity": pa.array(similarity, pa.float32(), mask=is_leader),
            "cluster": pa.array(found.number),
            "x": pa.array(places[:, 0]),
            "y": pa.array(places[:, 1]),
        },
        schema=DECISION,
    )
    return Arranged(decisions, _about(rows["text"].to_pylist(), found.number, is_picked))


def coverage(entries: pa.Table, decisions: pa.Table) -> dict[str, dict[str, dict[str, int]]]:
    """Return how many prompts there are in each layer and difficulty: asked, with an acceptable answer, and picked."""
    rows = entries.sort_by("answer_id").select(["answer_id", "prompt_id", "layer", "difficulty", "dropped_by"])
    lost = decisions.filter(pc.not_equal(decisions["dropped_by"], ""))["answer_id"]
    accepted = rows.filter(pc.invert(pc.is_in(rows["dropped_by"], pa.array(["pool", "sample"]))))
    picked = rows.filter(pc.invert(pc.is_in(rows["answer_id"], lost.combine_chunks())))
    asked = rows.group_by("prompt_id", use_threads=False).aggregate([("layer", "first"), ("difficulty", "first")])
    asked = asked.rename_columns({"layer_first": "layer", "difficulty_first": "difficulty"})
    stages = {"prompts": asked, "accepted": accepted, "picked": picked}
    return {column: _counts(stages, column) for column in ("layer", "difficulty")}


def _counts(stages: dict[str, pa.Table], column: str) -> dict[str, dict[str, int]]:
    pairs = {stage: pc.value_counts(rows[column]).to_pylist() for stage, rows in stages.items()}
    found = {stage: {pair["values"]: pair["counts"] for pair in counted} for stage, counted in pairs.items()}
    names = sorted({name for counts in found.values() for name in counts})
    return {name: {stage: counts.get(name, 0) for stage, counts in found.items()} for name in names}


def _about(texts: list[str], number: np.ndarray, is_picked: np.ndarray) -> list[dict[str, Any]]:
    labels = typical_words(texts, number)
    return [
        {
            "cluster": name,
            "rows": int((number == name).sum()),
            "picked": int((is_picked & (number == name)).sum()),
            "label": labels[name],
        }
        for name in sorted(labels)
    ]
