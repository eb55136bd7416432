"""Capture with a real vLLM, and as a job on Ray."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from students_world import write_teacher

from engine.capture.schemas import CAPTURE
from engine.contract.capture import Capture
from engine.contract.contract import Contract
from engine.contract.judges import Judges
from engine.contract.models import VllmModel
from engine.contract.profile import Pool, Profile, Ray
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teachers
from engine.inference.scoring import Masks, Target
from engine.records.capture import CaptureMetrics
from engine.records.record import Identity
from engine.records.tokens import TokenizerSummary, TokensMetrics
from engine.rows import EXAMPLE, PICKED, TOKENS, content_id, from_rows
from engine.runs.job import JobContext, run_pipeline
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs.pipeline import capture_job

FORM = {"type": "object", "properties": {"n": {"enum": ["seven", "eight", None]}}, "required": ["n"], "additionalProperties": False}
SHARED = "You read forms. " * 12
CHATS = [
    [{"role": "system", "content": SHARED}, {"role": "user", "content": f"Send {number}."}] for number in ("seven", "eight", "none")
]
TEXTS = ['{"n":"seven"}', '{"n":"eight"}', "There is no such thing."]


class Answers(NamedTuple):
    """What one engine says of the targets."""

    free: list[Any]  # the last target is the first one again: the cache holds the beginning of its text
    bound: list[Any]
    masks: list[np.ndarray | None]
    nll: list[float | None]
    end: int


def answers(folder: Path) -> Answers:
    """Ask vLLM, in a process of its own."""
    engine = vllm_engine(folder)
    free = [Target(chat, text) for chat, text in zip(CHATS, TEXTS, strict=True)]
    scored = engine.distributions([*free, free[0]], 16)
    bound = engine.distributions([target._replace(json_schema=FORM) for target in free], 400)
    masks = Masks(engine.tokenizer, engine.llm.model_config.get_vocab_size())
    found = [masks.of(FORM, each.tokens) for each in bound]
    return Answers(scored, bound, found, engine.mean_nll(CHATS, TEXTS), engine.tokenizer.eos_token_id)


def vllm_engine(folder: Path) -> Any:
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", TORCHDYNAMO_DISABLE="1", HF_HUB_OFFLINE="1")
    from engine.inference.vllm_engine import VllmEngine

    return VllmEngine(VllmModel(type="vllm", path="tiny", dtype="float32", max_model_len=512), Pool(kv_cache_gib=0.1), folder)


def widen(folder: Path) -> None:
    """Write another random model in place of the one in `folder`: heads of vLLM on a CPU have at least 32 dimensions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(folder)
    torch.manual_seed(1)
    wide = {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), **wide})).save_pretrained(folder)


def dense(folder: Path, chat: list[dict[str, str]], tokens: np.ndarray) -> np.ndarray:
    """Log-probabilities [T, V] of transformers before each of `tokens`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    head = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True)["input_ids"]
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        logits = model(torch.tensor([[*head, *tokens[:-1].tolist()]])).logits[0, len(head) - 1 :]
    return logits.log_softmax(-1).numpy()


def masked(logprobs: np.ndarray, masks: np.ndarray) -> np.ndarray:
    allowed = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")[:, : logprobs.shape[1]].astype(bool)
    kept = np.where(allowed, logprobs, -np.inf)
    with np.errstate(divide="ignore"):
        return kept - np.log(np.exp(kept).sum(axis=1, keepdims=True))


def test_vllm_scores_as_transformers_does_with_a_shared_prefix_and_with_a_mask(tmp_path: Path) -> None:
    write_teacher(tmp_path, [SHARED, *TEXTS])
    widen(tmp_path)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        scored, constrained, masks, nll, end = process.submit(answers, tmp_path).result()
    for at, each in enumerate(scored):
        chat = CHATS[at % 3]
        expected = dense(tmp_path, chat, each.tokens)
        order = np.argsort(-expected, axis=1, kind="stable")[:, :16]
        assert np.allclose(each.logprobs, np.take_along_axis(expected, order, axis=1), atol=2e-4)
        assert np.allclose(each.own, expected[np.arange(len(each.tokens)), each.tokens], atol=2e-4)
        tail = np.log(1 - np.exp(np.take_along_axis(expected, order, axis=1).astype(np.float64)).sum(axis=1))
        assert np.allclose(each.tail, tail, atol=1e-3) and not each.masked
        assert each.tokens[-1] == end
    assert [each.masked for each in constrained] == [True, True, False]  # no form: scored without the mask
    for at in (0, 1):
        each = constrained[at]
        found = masks[at]
        assert found is not None
        expected = masked(dense(tmp_path, CHATS[at], each.tokens), found)
        assert np.allclose(each.own, expected[np.arange(len(each.tokens)), each.tokens], atol=2e-4)
        assert (each.ids >= 0).sum(axis=1).tolist() == np.minimum(np.isfinite(expected).sum(axis=1), 320).tolist()
        assert np.allclose(np.exp(each.logprobs.astype(np.float64)).sum(axis=1), 1, atol=1e-4)
    assert [-each.own[:-1].mean() for each in scored[:3]] == pytest.approx(nll, abs=1e-4)


def contract(**capture: Any) -> Contract:
    unit = {"name": "copy", "kind": "rewrite", "instruction": "Copy."}
    models = [{"name": name, "model": {"type": "fake"}, "system": name} for name in ("a", "b")]
    return Contract.model_construct(
        specialist=Specialist.model_validate({"goal": "g", "task_units": [unit]}),
        teachers=Teachers.model_validate({"mode": "direct", "models": models}),
        capture=Capture.model_validate({"k": 4, **capture}),
        students=(),
        judges=Judges(),
        budget=Contract.model_fields["budget"].default,
        warn_above=1.0,
    )


def context(folder: Path, name: str, order: Contract) -> JobContext:
    run = Folder(str(folder / "run"))
    profile = Profile(name="test", ray=Ray(num_cpus=8), teacher=Pool(batch=4, cpus=0.5), ledger=str(folder / "ledger"))
    writer = ArtifactWriter(run / name)
    return JobContext(capture_job(), order, profile, str(folder), str(folder), run, writer, print)


def write_inputs(folder: Path) -> None:
    """Ten answers by `a` and `b`, one by nobody, a copy; and their tokens in another tokenizer, which splits as the bytes do."""
    from transformers import AutoTokenizer

    asked = [{"role": "user", "content": "say it"}]
    write_teacher(folder / "teacher", ["word ends word"])
    words: Any = AutoTokenizer.from_pretrained(folder / "teacher")
    examples, picked, tokens = [], [], []
    for number in range(11):
        answer, target = content_id(number), f"word {number} ends"
        teacher = "" if number == 10 else "ab"[number % 2]
        same = {"prompt_id": content_id("p", number), "task_unit": "copy"}
        picked.append({**same, "answer_id": answer, "teacher": teacher, "messages": asked, "text": "say it", "dropped_by": ""})
        for name in (answer, f"{answer}-again1") if number == 3 else (answer,):
            messages = [{"role": "system", "content": "Copy."}, *asked]
            examples.append(
                {**same, "example_id": name, "messages": messages, "target": target, "split": "train", "kind": "answer"}
            )
            ids = [5, 6, *words(target, add_special_tokens=False)["input_ids"], words.eos_token_id]
            tokens.append({"example_id": name, "split": "train", "ids": ids, "target_start": 2, "spans": [], "weight": 1.0})
    tokenizer: dict[str, bytes] = {path.name: path.read_bytes() for path in (folder / "teacher").glob("*token*")}
    summary = TokenizerSummary(key="k", made_from=[], students=[], words=1, turn_end=[], tokens=1, target_tokens=1, longest=1)
    for job, tables, metrics in (
        ("dataset", {"examples": (examples, EXAMPLE), "picked": (picked, PICKED)}, {}),
        ("tokens", {"examples_k": (tokens, TOKENS)}, TokensMetrics(tokenizers=[summary])),
    ):
        writer = ArtifactWriter(Folder(str(folder / "run" / job)), metrics=metrics)
        for name, (rows, schema) in tables.items():
            writer.put(name, from_rows(rows, schema), schema)
        for name, data in tokenizer.items() if job == "tokens" else ():
            writer.folder.write(f"tokenizer_k/{name}", data)
        writer.finish(Identity(job, {}, {}, "0"), RowCounts(12, {"all": 12}))


def test_job_scores_each_example_by_its_teacher_and_a_second_run_pays_nothing(tmp_path: Path, cluster: None) -> None:
    write_inputs(tmp_path)
    order = contract()
    run_pipeline([capture_job()], lambda job: context(tmp_path, job.name, order))
    artifact = load_artifact(tmp_path_folder(tmp_path))
    assert artifact is not None
    rows, metrics = artifact.read("captured", CAPTURE), artifact.metrics(CaptureMetrics)
    assert artifact.record.row_counts.rows_out == {"captured": 11, "copies": 1}
    by_teacher = {name: rows["teacher"].to_pylist().count(name) for name in ("a", "b")}
    assert by_teacher == {"a": 6, "b": 5} and {name: each.examples for name, each in metrics.teachers.items()} == by_teacher
    assert metrics.tokens_paid > 0 and metrics.aligned == {"k": 1.0}
    (tmp_path_folder(tmp_path)).remove()
    mixture = contract(k=2, teachers={"a": 0.7, "b": 0.3}, gate="agree")
    run_pipeline([capture_job()], lambda job: context(tmp_path, job.name, mixture))
    again = load_artifact(tmp_path_folder(tmp_path))
    assert again is not None and again.record.row_counts.rows_out == {"captured": 22, "copies": 2}
    assert json.loads(json.dumps(again.record.metrics))["teachers"]["a"]["weight"] == 0.7
    paid = again.metrics(CaptureMetrics).tokens_paid
    (tmp_path_folder(tmp_path)).remove()
    run_pipeline([capture_job()], lambda job: context(tmp_path, job.name, mixture))
    last = load_artifact(tmp_path_folder(tmp_path))
    assert last is not None and last.metrics(CaptureMetrics).tokens_paid == 0 < paid < 2 * metrics.tokens_paid
    assert last.table("captured").digest == again.table("captured").digest


def tmp_path_folder(folder: Path) -> Folder:
    return Folder(str(folder / "run" / "capture"))
