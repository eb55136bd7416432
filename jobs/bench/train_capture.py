"""A made-up capture for `rayleigh bench train`, where the run has none: as large as a real one, without asking a teacher."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.capture.capturer import EMPTY
from engine.capture.compact import entries, pack
from engine.capture.schemas import CAPTURE, VOCABULARY
from engine.capture.summary import metrics_of, summary
from engine.capture.vocabulary import vocabulary
from engine.contract.models import VllmModel
from engine.inference.scoring import Distribution
from engine.records.capture import CaptureMetrics
from engine.records.record import Identity
from engine.rows import EXAMPLE
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder

K = 16
TEACHER = "made-up"
TAIL = 0.01  # mass beyond the entries


def capture(dataset: Artifact, model: VllmModel, weights: Path, folder: Folder) -> Artifact:
    """Write distributions of K random words at each target token of the examples, the target's own among the likelier ones.

    The words are those that occur in the targets, in the tokenizer of `model`, whose files are in `weights`.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
    rows = dataset.read("examples", EXAMPLE, ["example_id", "target"]).to_pylist()
    targets = [[*tokenizer.encode(row["target"], add_special_tokens=False), tokenizer.eos_token_id] for row in rows]
    occurring, draw = np.unique(np.concatenate(targets)).astype(np.int32), np.random.default_rng(0)
    found = [
        {**EMPTY, "example_id": row["example_id"], "teacher": TEACHER, "finish_reason": "stop", "error": "", "tokens": len(target)}
        | pack(entries(_distribution(np.array(target, np.int32), occurring, draw)))
        for row, target in zip(rows, targets, strict=True)
    ]
    table = pa.Table.from_pylist(found, CAPTURE)
    words = vocabulary(model, weights)
    kept = words.filter(pc.or_(pc.is_in(words["id"], pa.array(occurring)), words["ends"]))
    writer = ArtifactWriter(folder)
    writer.put("captured", table, CAPTURE)
    writer.put("vocabulary", kept.append_column("teacher", pa.repeat(TEACHER, len(kept))).select(VOCABULARY.names), VOCABULARY)
    teacher = metrics_of([summary(table)], writer.tables["captured"].bytes)
    writer.metrics = CaptureMetrics(constraint="none", gate="none", teachers={TEACHER: teacher}, tokens_paid=0)
    return writer.finish(Identity("capture", {}, {}, TEACHER), RowCounts(len(rows), {"captured": len(rows)}))


def _distribution(tokens: np.ndarray, occurring: np.ndarray, draw: np.random.Generator) -> Distribution:
    count, k = len(tokens), min(K, len(occurring) - 1)
    ids = np.stack([draw.choice(occurring[occurring != token], k, replace=False) for token in tokens])
    ids[np.arange(count), draw.integers(0, 2, count)] = tokens
    probs = np.sort(draw.dirichlet(np.full(k, 0.1), count) + 1e-9, axis=1)[:, ::-1]
    logprobs = np.log(probs / probs.sum(axis=1, keepdims=True) * (1 - TAIL)).astype(np.float32)
    own = logprobs[ids == tokens[:, None]]
    return Distribution(tokens, ids, logprobs, own, np.full(count, np.log(TAIL), np.float32), 0)
