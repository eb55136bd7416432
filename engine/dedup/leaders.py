"""Semantic duplicates: which rows lose, and to which row. Both `dataset` and `rayleigh dedup --method semantic` use this rule.

Rows are taken best first. A row that has a cosine of at least the threshold with a row that stayed loses to the nearest such row;
any other row stays and leads. This is greedy leader clustering, as in Abbas et al., "SemDeDup" (2023), with a declared order
instead of the distance to the centre. A row never loses to one that is unlike it, which connected components would allow: in a
chain of small steps of meaning, the ends have nothing in common.

A row and its leader are a near pair, so both are in one connected component of near pairs. Therefore `semantic` finds components,
which needs no list of all pairs, and the rule is applied within each.
"""

from typing import NamedTuple

import numpy as np

from engine.dedup import semantic

AT_ONCE = 1_024  # rows that are compared with the rows that stayed before them


class Leaders(NamedTuple):
    """For each row the row it loses to, itself if it stays, and the cosine to it (float32, 1 if it stays)."""

    leader: np.ndarray
    similarity: np.ndarray


def leaders(vectors: np.ndarray, *, threshold: float) -> Leaders:
    """Return the leaders of unit `vectors` (rows, dimensions), best row first, of one component.

    Up to semantic.EXACT_UP_TO rows are compared with all that stayed; of more, each with those in its semantic.NPROBE clusters.
    """
    leader, similarity = np.arange(len(vectors)), np.ones(len(vectors), np.float32)
    stayed = _index(vectors) if len(vectors) > AT_ONCE else None
    for start in range(0, len(vectors), AT_ONCE):
        block = vectors[start : start + AT_ONCE]
        cosine, nearest = np.full(len(block), -np.inf, np.float32), np.full(len(block), -1)
        if stayed and start:
            cosine, nearest = (result[:, 0] for result in stayed.search(block, 1))
        mutual = block @ block.T
        stays = np.zeros(len(block), bool)
        for place in range(len(block)):
            best, to = cosine[place], nearest[place]
            earlier = np.flatnonzero(stays[:place])
            if len(earlier) and mutual[place, earlier].max() > best:
                closest = earlier[mutual[place, earlier].argmax()]
                best, to = mutual[place, closest], start + closest
            stays[place] = to < 0 or best < np.float32(threshold)
            if not stays[place]:
                leader[start + place], similarity[start + place] = to, best
        if stayed:
            stayed.add_with_ids(block[stays], start + np.flatnonzero(stays))
    return Leaders(leader, similarity)


def semantic_leaders(vectors: np.ndarray, order: np.ndarray, *, threshold: float) -> Leaders:
    """Return the leaders of unit `vectors` whose rows are taken in `order`, row numbers; a row that is not in `order` is ignored.

    One process; it holds the vectors twice.
    """
    leader, similarity = np.arange(len(vectors)), np.ones(len(vectors), np.float32)
    ranked = vectors[order]
    pairs = semantic.near_pairs(ranked, threshold=threshold)
    component = semantic.components_of([pairs], len(ranked)) if len(pairs.left) else np.arange(len(ranked))
    for members in groups(component):
        winners = leaders(ranked[members], threshold=threshold)
        rows = order[members]
        leader[rows], similarity[rows] = rows[winners.leader], winners.similarity
    return Leaders(leader, similarity)


def groups(label: np.ndarray) -> list[np.ndarray]:
    """Return the sorted row numbers of each label that at least two rows have."""
    rows = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[rows], prepend=-1))
    return [group for group in np.split(rows, starts[1:]) if len(group) > 1] if len(rows) else []


def _index(vectors: np.ndarray):
    """Return an empty FAISS index of inner products, to which rows are added by number."""
    import faiss

    faiss.omp_set_num_threads(1)
    if len(vectors) <= semantic.EXACT_UP_TO:
        return faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
    centres = semantic.fit(vectors, clusters=semantic.num_clusters(len(vectors)))
    coarse = faiss.IndexFlatIP(vectors.shape[1])
    coarse.add(centres)
    index = faiss.IndexIVFFlat(coarse, vectors.shape[1], len(centres), faiss.METRIC_INNER_PRODUCT)
    index.nprobe = semantic.NPROBE
    return index
