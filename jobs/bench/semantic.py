"""Near copies by meaning: embedding against bare sentence-transformers, what the rest costs beside it, what is found again.

`rayleigh bench semantic --json` prints

    texts, model, threads
    bare, embed     texts_per_second: median of the rounds; rounds: of each. `bare` is one call of `SentenceTransformer.encode` with
                    all texts, `embed` the op of an actor, Arrow in and out. They take turns in one process, on the same threads
    ratio           median over the rounds of embed by bare of the same round
    agreement       the least cosine of the two embeddings of a text
    rest            stage -> seconds: `near` (clusters, visits, pairs: what `dedup` does with embeddings), `arrange` (keepers,
                    clusters and the map of `dataset`)
    share           stage -> its seconds by those of `embed`
    thresholds      threshold -> planted copies, by kind and in all, looked for in CLUSTERS clusters
        planted     texts that are a copy of another, made by rule: `typos` (two letters swapped in three words), `order` (the same
                    sentences in another order), `paraphrase` (each sentence said in other words)
        near        those that the model itself puts at least so near: the most that can be found
        found       those that are in one group with their original
        recall      found by near
    strangers       threshold -> pairs of texts that have nothing to do with each other and were paired
"""

import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import yaml

from engine.contract import load_profile
from engine.contract.curation import Curation
from engine.distributed import ray_options
from engine.inference.locate import locate
from jobs import workspace
from jobs.terminal.console import columns

PHRASES = Path(__file__).with_name("semantic.yaml")
THRESHOLDS = (0.9, 0.95)
CLUSTERS = 20  # more than so few texts would be cut into, so that what is lost at borders shows
KINDS = ("typos", "order", "paraphrase")


class Corpus(NamedTuple):
    """Texts, of which some are copies of others."""

    texts: list[str]
    original: list[int]  # of each text the number of the text that it is a copy of, or its own
    kind: list[str]  # one of KINDS, "" for an original


def bench(texts: int, rounds: int, *, profile: str) -> dict[str, Any]:
    """Return the object that the module describes."""
    environment = ray_options.environment(load_profile(workspace.profile_path(profile)).embedder)
    folder = locate(model_name(), root=".", home=workspace.models_home())
    with ProcessPoolExecutor(1, get_context("spawn"), _set, (environment,)) as apart:
        return apart.submit(measure, corpus(texts), rounds, folder).result()


def _set(environment: dict[str, str]) -> None:
    """Set what torch reads when it is imported."""
    os.environ.update(environment)


def model_name() -> str:
    """Return the embedding model that a contract has by default."""
    section = Curation().semantic
    assert section
    return section.model


def corpus(count: int, *, seed: int = 0) -> Corpus:
    """Return `count` texts, of which a third are copies, each of another text."""
    rng = random.Random(seed)
    given = yaml.safe_load(PHRASES.read_text())
    made = Corpus([], [], [])
    while len(made.texts) < count:
        sentences = [_sentence(pair, given, rng) for pair in rng.sample(given["sentences"], 3)]
        place = len(made.texts)
        rows = [(" ".join(one for one, _ in sentences), "")]
        if place % 3 == 0:
            kind = KINDS[place // 3 % len(KINDS)]
            rows.append((_copy(sentences, kind, rng), kind))
        for text, kind in rows[: count - place]:
            made.texts.append(text)
            made.original.append(place)
            made.kind.append(kind)
    return made


def measure(given: Corpus, rounds: int, folder: Path) -> dict[str, Any]:
    """Measure in this process, in which nobody has imported torch before."""
    import torch

    from engine.dedup.embedder import Embedder
    from engine.dedup.vectors import matrix

    rows, embedder = pa.table({"text": given.texts}), Embedder(folder)
    model = embedder.model.model
    sides: dict[str, Callable[[], Any]] = {
        "bare": lambda: model.encode(given.texts, normalize_embeddings=True, show_progress_bar=False),
        "embed": lambda: embedder(rows),
    }
    vectors = {"bare": sides["bare"](), "embed": matrix(embedder(rows)["embedding"])}  # the first round does not count
    seconds = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            seconds[name].append(_timed(sides[name]))
    rest = _rest(given, vectors["embed"])
    speeds = {name: [round(len(given.texts) / one, 1) for one in taken] for name, taken in seconds.items()}
    return {
        "texts": len(given.texts),
        "model": folder.name,
        "threads": torch.get_num_threads(),
        **{name: {"texts_per_second": statistics.median(found), "rounds": found} for name, found in speeds.items()},
        "ratio": round(statistics.median(a / b for a, b in zip(speeds["embed"], speeds["bare"], strict=True)), 3),
        "agreement": round(float((vectors["bare"] * vectors["embed"]).sum(axis=1).min()), 6),
        "rest": {name: round(one, 3) for name, one in rest.items()},
        "share": {name: round(one / statistics.median(seconds["embed"]), 3) for name, one in rest.items()},
        **_planted(given, vectors["embed"]),
    }


def _rest(given: Corpus, vectors: np.ndarray) -> dict[str, float]:
    from engine.curation.clusters import cluster, leaders, map_of

    from engine.dedup.semantic import near_pairs

    ids = _ids(given)

    def arrange() -> None:
        leaders(vectors, np.arange(len(vectors)), threshold=THRESHOLDS[0])
        cluster(vectors, count=Curation().pick.clusters, seed=0)
        map_of(vectors)

    near_pairs(ids[:100], vectors[:100], threshold=THRESHOLDS[0])  # imports
    return {"near": _timed(lambda: near_pairs(ids, vectors, threshold=THRESHOLDS[0])), "arrange": _timed(arrange)}


def _planted(given: Corpus, vectors: np.ndarray) -> dict[str, Any]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    from engine.dedup.semantic import near_pairs

    original, kind = np.array(given.original), np.array(given.kind)
    cosine = (vectors * vectors[original]).sum(axis=1)
    found: dict[str, dict[str, Any]] = {"thresholds": {}, "strangers": {}}
    for threshold in THRESHOLDS:
        pairs = near_pairs(_ids(given), vectors, threshold=threshold, clusters=CLUSTERS)
        left, right = pairs["a"].to_numpy(), pairs["b"].to_numpy()
        graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(len(original), len(original)))
        group = connected_components(graph, directed=False)[1]
        is_found, is_near = group == group[original], cosine >= threshold
        found["thresholds"][str(threshold)] = {
            name: _recall(kind == name if name != "all" else kind != "", is_near, is_found) for name in (*KINDS, "all")
        }
        found["strangers"][str(threshold)] = int(np.count_nonzero(original[left] != original[right]))
    return found


def _recall(chosen: np.ndarray, is_near: np.ndarray, is_found: np.ndarray) -> dict[str, Any]:
    near = int(np.count_nonzero(chosen & is_near))
    both = int(np.count_nonzero(chosen & is_near & is_found))
    counts = {"planted": int(chosen.sum()), "near": near, "found": int(np.count_nonzero(chosen & is_found))}
    return counts | {"recall": round(both / near, 4) if near else None}


def _ids(given: Corpus) -> pa.Array:
    return pa.array(np.arange(len(given.texts)))


def _timed(what: Callable[[], Any]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def _sentence(pair: list[str], given: dict[str, Any], rng: random.Random) -> tuple[str, str]:
    slots = {name: rng.choice(values) for name, values in given["slots"].items()} | {"n": rng.randrange(2, 900)}
    one, other = (text.format(**slots) for text in pair)
    return one, other


def _copy(sentences: list[tuple[str, str]], kind: str, rng: random.Random) -> str:
    if kind == "paraphrase":
        return " ".join(other for _, other in sentences)
    if kind == "order":
        return " ".join(one for one, _ in [*sentences[1:], sentences[0]])
    words = " ".join(one for one, _ in sentences).split()
    for place in rng.sample([number for number, word in enumerate(words) if len(word) > 4], 3):
        at = rng.randrange(1, len(words[place]) - 2)
        word = words[place]
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def as_text(found: dict[str, Any]) -> str:
    """Return the object as two tables."""
    rows = [[name, f"{found[name]['texts_per_second']:.0f}", ""] for name in ("bare", "embed")]
    rows += [[name, "", f"{seconds:.2f} s, {100 * found['share'][name]:.1f} % of embed"] for name, seconds in found["rest"].items()]
    speed = columns(rows, head=["what", "texts/s", "beside it"])
    planted = [
        [threshold, kind, *(str(one[name]) for name in ("planted", "near", "found", "recall"))]
        for threshold, kinds in found["thresholds"].items()
        for kind, one in kinds.items()
    ]
    copies = columns(planted, head=["threshold", "copies", "planted", "near", "found", "recall"])
    return f"{found['texts']} texts, embed by bare {found['ratio']:.3f}\n\n{speed}\n\n{copies}"
