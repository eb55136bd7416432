"""From embeddings to decisions: what resembles the holdout, near-duplicates by meaning, clusters, the map, and who is picked."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.contract.signals import SIGNALS
from engine.curation.clusters import Clusters, cluster, leaders, map_of, typical_words
from engine.curation.contamination import LEAK, by_meaning
from engine.curation.copies import DECISION
from engine.curation.measure import SIDES, means, selection
from engine.curation.pick import turns
from engine.curation.samples import BEST_FIRST
from engine.curation.select import Eligible, select
from engine.dedup.vectors import matrix


class Arranged(NamedTuple):
    """Decisions over all embedded rows, and what the clusters are about."""

    decisions: pa.Table  # DECISION
    clusters: list[dict[str, Any]]  # cluster, rows, picked, label
    leaks: pa.Table  # LEAK, by meaning
    selection: dict[str, Any] | None  # measure.selection: of all embedded rows, and of the picked ones


def arrange(embedded: pa.Table, section: Curation, known: pa.Table | None = None) -> Arranged:
    """EMBEDDED, whole and in any order, in; every row has a decision, a cluster and a place on the map.

    `known` is LISTED with `embedding`: what must stay unknown.
    """
    if not embedded.num_rows or section.semantic is None:
        return Arranged(DECISION.empty_table(), [], LEAK.empty_table(), None)
    rows = embedded.sort_by("prompt_id")
    vectors = matrix(rows["embedding"])
    leaks = by_meaning(rows, known, section.decontaminate) if known is not None else _no_leaks(rows)
    is_out = leaks["is_out"].to_numpy()
    order = pc.sort_indices(rows, sort_keys=BEST_FIRST).to_numpy()
    leader, similarity = leaders(vectors, order[~is_out[order]], threshold=section.semantic.threshold)
    stays = (leader == np.arange(len(leader))) & ~is_out
    found = cluster(vectors, count=section.pick.clusters, seed=section.seed)
    eligible, kept = _eligible(rows, vectors, found), np.flatnonzero(stays)
    is_picked = np.zeros(len(leader), bool)
    is_picked[kept[select(_some(eligible, kept, rows, found), section.pick)]] = True
    answer_id = rows["answer_id"].combine_chunks()
    lost_to = pc.if_else(leaks["is_out"], leaks["id"], answer_id.take(pa.array(leader)))
    cosine = np.where(is_out, leaks["similarity"].to_numpy(), similarity)
    fates = {
        "answer_id": answer_id,
        "dropped_by": _reasons(is_picked, stays, is_out),
        "duplicate_of": pc.if_else(pa.array(stays), "", lost_to),
        "similarity": pa.array(cosine, pa.float32(), mask=stays),
    }
    about = _about(rows["text"].to_pylist(), eligible, is_picked)
    return Arranged(_placed(fates, found, map_of(vectors)), about, leaks, selection(eligible, is_picked))


def _placed(fates: dict[str, Any], found: Clusters, places: np.ndarray) -> pa.Table:
    where = {"cluster": pa.array(found.number), "x": pa.array(places[:, 0]), "y": pa.array(places[:, 1])}
    return pa.table(fates | where, schema=DECISION)


def _no_leaks(rows: pa.Table) -> pa.Table:
    nothing = {"answer_id": rows["answer_id"], "is_out": pa.repeat(pa.scalar(False), len(rows))}
    return pa.table({field.name: nothing.get(field.name, pa.nulls(len(rows), field.type)) for field in LEAK}).cast(LEAK)


def _reasons(is_picked: np.ndarray, stays: np.ndarray, is_out: np.ndarray) -> pa.Array:
    reason = np.where(is_picked, "", np.where(is_out, "contaminated", np.where(stays, "quota", "semantic")))
    return pa.array(reason.tolist(), pa.string())


def _eligible(rows: pa.Table, vectors: np.ndarray, found: Clusters) -> Eligible:
    """All rows; their turns are left open, since only those that stay take turns."""
    sides = {side: pc.fill_null(rows[side], "").to_pylist() for side in SIDES if side != "cluster"}
    sides["cluster"] = found.number.astype(str).tolist()
    surprise = pc.fill_null(rows["surprise"], 0.0).to_numpy()
    signals = {name: pc.fill_null(rows[name], np.nan).to_numpy() for name in SIGNALS}
    return Eligible(vectors, np.zeros(len(vectors), np.int64), found.number, surprise, sides, signals)


def _some(rows: Eligible, kept: np.ndarray, table: pa.Table, found: Clusters) -> Eligible:
    scenario = table["scenario"].take(pa.array(kept)).to_pylist()
    return Eligible(
        rows.vectors[kept],
        turns(found.number[kept], found.closeness[kept], scenario),
        found.number[kept],
        rows.surprise[kept],
        {side: [values[row] for row in kept.tolist()] for side, values in rows.sides.items()},
        {name: values[kept] for name, values in rows.signals.items()},
    )


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


def _about(texts: list[str], rows: Eligible, is_picked: np.ndarray) -> list[dict[str, Any]]:
    labels = typical_words(texts, rows.cluster)
    return [
        {
            "cluster": name,
            "rows": int((rows.cluster == name).sum()),
            "picked": int((is_picked & (rows.cluster == name)).sum()),
            "label": labels[name],
            "signals": means(rows, rows.cluster == name),
        }
        for name in sorted(labels)
    ]
