"""What is run on nodes that share no disk: sources and models in a store, a contract, a profile that places its two teachers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine.inference.bundled import packaged_weights
from engine.storage.folder import Folder
from engine.storage.sums import SUMS
from tests.line import kills_world as world
from tests.line.data_world import CONTRACT
from tests.line.tiny_model import write_tiny

TEACHERS = ("left", "right")
"""Teachers, and the resources of the nodes that they run on."""
NAME = "xs"
STUDENT = f"students/{NAME}"
JOBS = ("prompts", "candidates", "dataset", "tokens", STUDENT, "reports")
ENCODER, HELD_OUT, HOLDOUT = "all-minilm-l6-v2", "Held out", 8
CPUS, OF_AN_ENCODER = 8, 5  # so that each node has one encoder
EVALUATED = 4  # prompts of a batch of the evaluation


class Size(NamedTuple):
    """How much a run makes, and how often a node is killed in it."""

    prompts: int
    steps: int
    """Of the student's training."""
    delay: float
    """Seconds of an answer."""
    kills: Mapping[str, int]
    """Job -> how often a node is killed in it, at most."""
    again: str = "reports"
    """Last job that is made again, from the candidates on, on one machine."""
    semantic: bool = False
    """Whether the dataset is deduplicated by meaning."""


def put(store: Folder, size: Size, folder: Path) -> None:
    """Write the sources and models of the contract into `store`; `folder` is of this machine."""
    texts = world.mails(size.prompts + HOLDOUT)
    held_out = [f"{HELD_OUT} {text}" for text in texts[size.prompts :]]
    for name, rows in (("seeds", texts[: size.prompts]), ("holdout", held_out)):
        lines = [json.dumps({"input": text, "reference": "answer 1"}) for text in rows]
        store.write(f"{name}.jsonl", "\n".join(lines).encode())
    write_tiny(folder / "tiny")
    _upload(packaged_weights(ENCODER), store / "encoder")
    _upload(folder / "tiny", store / "tiny")


def _upload(model: Path, folder: Folder) -> None:
    sums = []
    for path in sorted(path for path in model.rglob("*") if path.is_file() and not path.name.startswith(".")):
        name = path.relative_to(model).as_posix()
        folder.write(name, path.read_bytes())
        sums.append(f"{Folder(str(model)).measure(name).sha256}  {name}")
    folder.write(SUMS, "\n".join(sums).encode())


def contract(store: str, size: Size, url: str) -> dict[str, Any]:
    """Return the contract: `store` has what it names, the server at `url` is both teachers and the judge."""
    unit = {"name": "echo", "kind": "rewrite", "instruction": "Answer.", "output": {}}
    source = {"path": f"{store}/seeds.jsonl", "licence": "CC0-1.0"}
    student = {"dtype": "float32", "batch_size": 8, "micro_batch_size": 8, "max_steps": size.steps, "epochs": 40}
    student |= {"name": NAME, "init": {"prune": {"source": f"{store}/tiny", "layers": [0]}}}
    return CONTRACT | {
        "specialist": {"goal": "g", "task_units": [unit]},
        "prompts": {"sources": [source], "holdout": {"path": f"{store}/holdout.jsonl", "labels": "rule"}},
        "teachers": _teachers(store, size, url),
        "judges": _judges(url),
        "curation": {"semantic": {"model": f"{store}/encoder"} if size.semantic else None, "pick": {"validation": 0.2}},
        "students": [student | {"checkpoint_steps": 1, "early_stop": None}],
        "evaluation": {"bootstrap": 100, "latency_prompts": 2},
    }


def _teachers(store: str, size: Size, url: str) -> dict[str, Any]:
    shared = {"model": _model(url, "teacher"), "sampling": {"n": world.SAMPLES, "temperature": 0.7}}
    bank = [{"input": text, "to": [TEACHERS[number % 2]]} for number, text in enumerate(world.mails(size.prompts)[:6])]
    return {
        "mode": "experts",
        "models": [{"name": name, "system": f"You are {name}.", **shared} for name in TEACHERS],
        "routes": [{"nearest": {"bank": bank, "model": f"{store}/encoder", "min_cosine": 0.0}}],
    }


def _judges(url: str) -> dict[str, Any]:
    gold = [{"input": f"Mail {n}", "answer": str(n), "label": ("right", "wrong")[n % 2]} for n in range(8)]
    rubric = {"name": "j", "model": _model(url, "judge"), "system": "Judge.", "question": "{text} {answer}"}
    return {"rubrics": [rubric], "calibrate": {"gold": gold}, "accept": {"confidence": 0.0, "agreement": 0.0}}


def _model(url: str, name: str) -> dict[str, Any]:
    return {"type": "endpoint", "url": url, "path": name}


def profiles() -> dict[str, dict[str, Any]]:
    """Return the profile `nodes`, of the cluster that a job runs on, and `alone`, of one machine."""
    pool = {"cpus": 1, "batch": world.BATCH, "max_num_seqs": 4}
    engine = {"cpus": 1, "batch": EVALUATED, "kv_cache_gib": 0.25, "max_num_seqs": 4}
    shared = {
        "judge": pool,
        "embedder": {"actors": len(TEACHERS), "cpus": OF_AN_ENCODER, "batch": world.BATCH},
        "cpu": {"actors": 2, "cpus": 0.5},
        "evaluator": {**engine, "actors": len(TEACHERS) + 1},
    }
    placed = {"left": "left", "right": "right", NAME: "right"}
    of_cluster = {
        "ray": {"address": "auto"},
        "teachers": {name: {**pool, "resources": {name: 1}} for name in TEACHERS},
        "evaluators": {name: {**engine, "resources": {resource: 1}} for name, resource in placed.items()},
    }
    local = {"ray": {"address": "local", "num_cpus": 2 * CPUS}, "teacher": pool}
    return {"nodes": {"name": "nodes", **shared, **of_cluster}, "alone": {"name": "alone", **shared, **local}}
