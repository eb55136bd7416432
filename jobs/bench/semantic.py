"""`rayleigh bench semantic`: embedding against bare sentence-transformers, the cost of deduplication, and the recall of it."""

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import yaml

from engine.contract.curation import Pick, Semantic
from engine.contract.profile import load_profile
from engine.distributed import ray_options
from engine.inference.locate import locate
from engine.records.base import Record
from jobs import places
from jobs.terminal.console import columns

PHRASES = Path(__file__).with_name("semantic.yaml")
THRESHOLDS = (0.9, 0.95)
CLUSTERS = 20  # more than so few texts need, so that misses at the borders of clusters show
KINDS = ("typos", "order", "paraphrase")

Phrases = Mapping[str, Any]


class Corpus(NamedTuple):
    """Texts, some of which are near-duplicates of others."""

    texts: list[str]
    original: list[int]  # number of the text that each one is a duplicate of, or its own
    kind: list[str]  # one of KINDS, "" for an original


class Speed(Record):
    """Speed of one way to embed."""

    texts_per_second: float
    """Median of the rounds."""
    rounds: tuple[float, ...]
    """Texts per second of each round."""


class Recall(Record):
    """Near-duplicates of one kind that are found at one threshold."""

    planted: int
    """Texts that are a duplicate of another, made by rule: `typos` (two letters swapped in three words), `order` (the sentences in
    another order), `paraphrase` (each sentence in another wording), or `all`."""
    near: int
    """Those whose embedding is near enough to the original's: the most that can be found."""
    found: int
    """Those in one component with their original."""
    recall: float | None
    """Share of `near` that is found; null if there is none."""


class Planted(Record):
    """The near-duplicates that are found, with vectors in CLUSTERS clusters."""

    thresholds: dict[str, dict[str, Recall]]
    """Threshold -> kind -> recall."""
    strangers: dict[str, int]
    """Threshold -> pairs of unrelated texts that were found."""


class SemanticBench(Planted):
    """Output of `rayleigh bench semantic --json`."""

    texts: int
    model: str
    threads: int
    bare: Speed
    """One call of `SentenceTransformer.encode` with all texts."""
    embed: Speed
    """The op of an actor, Arrow in and out. Both take turns in one process, on the same threads."""
    ratio: float
    """Median over the rounds of embed by bare of the same round."""
    agreement: float
    """The least cosine of the two embeddings of a text."""
    rest: dict[str, float]
    """Stage -> seconds: `near` (near pairs: what `dedup` does with embeddings), `decide` (leaders, topic clusters and the map of
    `dataset`)."""
    share: dict[str, float]
    """Stage -> its seconds divided by those of `embed`."""


def bench(texts: int, rounds: int, *, profile: str) -> SemanticBench:
    """Measure in a process of its own, whose environment is that of an embedder's actor."""
    environment = ray_options.environment(load_profile(places.profile_path(profile)).embedder)
    folder = locate(Semantic().model, root=".", home=places.models_home())
    with ProcessPoolExecutor(1, get_context("spawn"), _set, (environment,)) as process:
        return process.submit(measure, corpus(texts), rounds, folder).result()


def _set(environment: dict[str, str]) -> None:
    os.environ.update(environment)  # before torch, which reads it on import


def corpus(count: int, *, seed: int = 0) -> Corpus:
    """Return `count` texts, of which a third are copies, each of another text."""
    rng = random.Random(seed)
    phrases = yaml.safe_load(PHRASES.read_text())
    result = Corpus([], [], [])
    while len(result.texts) < count:
        sentences = [_sentence(pair, phrases, rng) for pair in rng.sample(phrases["sentences"], 3)]
        place = len(result.texts)
        rows = [(" ".join(first for first, _ in sentences), "")]
        if place % 3 == 0:
            kind = KINDS[place // 3 % len(KINDS)]
            rows.append((_copy(sentences, kind, rng), kind))
        for text, kind in rows[: count - place]:
            result.texts.append(text)
            result.original.append(place)
            result.kind.append(kind)
    return result


def measure(texts: Corpus, rounds: int, folder: Path) -> SemanticBench:
    """Measure in this process, which must not have imported torch before."""
    import torch

    from engine.dedup.embedder import TextEmbedder
    from engine.dedup.vectors import matrix

    rows, embedder = pa.table({"text": texts.texts}), TextEmbedder(folder)
    model = embedder.model.model
    ways: dict[str, Callable[[], Any]] = {
        "bare": lambda: model.encode(texts.texts, normalize_embeddings=True, show_progress_bar=False),
        "embed": lambda: embedder(rows),
    }
    vectors = {"bare": ways["bare"](), "embed": matrix(embedder(rows)["embedding"])}  # the first round does not count
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            seconds[name].append(_timed(ways[name]))
    rest, planted = rest_seconds(vectors["embed"]), find_planted(texts, vectors["embed"])
    rates = {name: tuple(round(len(texts.texts) / taken, 1) for taken in of_way) for name, of_way in seconds.items()}
    speeds = {name: Speed(texts_per_second=statistics.median(of_way), rounds=of_way) for name, of_way in rates.items()}
    return SemanticBench(
        texts=len(texts.texts),
        model=folder.name,
        threads=torch.get_num_threads(),
        bare=speeds["bare"],
        embed=speeds["embed"],
        ratio=round(statistics.median(a / b for a, b in zip(rates["embed"], rates["bare"], strict=True)), 3),
        agreement=round(float((vectors["bare"] * vectors["embed"]).sum(axis=1).min()), 6),
        rest={name: round(taken, 3) for name, taken in rest.items()},
        share={name: round(taken / statistics.median(seconds["embed"]), 3) for name, taken in rest.items()},
        **dict(planted),
    )


def rest_seconds(vectors: np.ndarray) -> dict[str, float]:
    """Return the seconds of the stages after embedding, with the functions that `dataset` runs on a single shard."""
    from engine.curation import topics
    from engine.curation.decide import place
    from engine.dedup.leaders import semantic_leaders
    from engine.dedup.semantic import near_pairs

    def decide() -> None:
        semantic_leaders(vectors, np.arange(len(vectors)), threshold=THRESHOLDS[0])
        rows, mean = topics.training_rows(len(vectors), count=Pick().clusters, seed=0), vectors.mean(axis=0)
        placed = place(vectors, topics.train(vectors[rows], count=Pick().clusters, seed=0), mean)
        topics.project(vectors, mean, topics.principal_axes(placed.scatter))

    near_pairs(vectors[:100], threshold=THRESHOLDS[0])  # imports
    return {"near": _timed(lambda: near_pairs(vectors, threshold=THRESHOLDS[0])), "decide": _timed(decide)}


def find_planted(texts: Corpus, vectors: np.ndarray) -> Planted:
    """Return the near-duplicates that are found by `vectors`, the embeddings of `texts`."""
    from engine.dedup.semantic import components_of, near_pairs

    original, kind = np.array(texts.original), np.array(texts.kind)
    cosine = (vectors * vectors[original]).sum(axis=1)
    planted = {name: kind == name for name in KINDS} | {"all": kind != ""}
    thresholds: dict[str, dict[str, Recall]] = {}
    strangers: dict[str, int] = {}
    for threshold in THRESHOLDS:
        pairs = near_pairs(vectors, threshold=threshold, clusters=CLUSTERS)
        component = components_of([pairs], len(original))
        is_found, is_near = component == component[original], cosine >= threshold
        thresholds[str(threshold)] = {name: _recall(is_planted, is_near, is_found) for name, is_planted in planted.items()}
        strangers[str(threshold)] = int(np.count_nonzero(original[pairs.left] != original[pairs.right]))
    return Planted(thresholds=thresholds, strangers=strangers)


def _recall(is_planted: np.ndarray, is_near: np.ndarray, is_found: np.ndarray) -> Recall:
    near = int(np.count_nonzero(is_planted & is_near))
    both = int(np.count_nonzero(is_planted & is_near & is_found))
    recall = round(both / near, 4) if near else None
    return Recall(planted=int(is_planted.sum()), near=near, found=int(np.count_nonzero(is_planted & is_found)), recall=recall)


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _sentence(pair: list[str], phrases: Phrases, rng: random.Random) -> tuple[str, str]:
    slots = {name: rng.choice(values) for name, values in phrases["slots"].items()} | {"n": rng.randrange(2, 900)}
    first, second = (text.format(**slots) for text in pair)
    return first, second


def _copy(sentences: list[tuple[str, str]], kind: str, rng: random.Random) -> str:
    if kind == "paraphrase":
        return " ".join(second for _, second in sentences)
    if kind == "order":
        return " ".join(first for first, _ in [*sentences[1:], sentences[0]])
    words = " ".join(first for first, _ in sentences).split()
    for place in rng.sample([number for number, word in enumerate(words) if len(word) > 4], 3):
        at = rng.randrange(1, len(words[place]) - 2)
        word = words[place]
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def as_text(result: SemanticBench) -> str:
    """Return the result as two tables."""
    rows = [["bare", f"{result.bare.texts_per_second:.0f}", ""], ["embed", f"{result.embed.texts_per_second:.0f}", ""]]
    rows += [[name, "", f"{taken:.2f} s, {100 * result.share[name]:.1f} % of embed"] for name, taken in result.rest.items()]
    planted = [
        [threshold, kind, *(str(getattr(recall, name)) for name in Recall.model_fields)]
        for threshold, kinds in result.thresholds.items()
        for kind, recall in kinds.items()
    ]
    speed = columns(rows, head=["stage", "texts/s", "time"])
    recalls = columns(planted, head=["threshold", "copies", *Recall.model_fields])
    return f"{result.texts} texts, embed by bare {result.ratio:.3f}\n\n{speed}\n\n{recalls}"
