"""`make exports`: real exports of a small random student, made as jobs on Ray and served by their own runtimes.

What needs llama.cpp is skipped where the exporter is not installed; `make exports` installs it first.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import students_world as world
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from engine.contract.contract import Contract
from engine.contract.models import LlamaCppModel, Model, VllmModel
from engine.contract.specialist import TaskUnit
from engine.distributed.session import session
from engine.errors import ModelError
from engine.evaluation import flow
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.records.export import ExportMetrics
from engine.records.record import Identity
from engine.runs.job import Job, JobContext, run_pipeline
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from engine.students.export import gguf, int4, probe
from jobs.places import models_home

pytestmark = pytest.mark.exports
PACKAGES = gguf.PACKAGES.folder(world.profile(), models_home())
needs_llama_cpp = pytest.mark.skipif(bool(gguf.PACKAGES.missing(PACKAGES)), reason=f"the export {gguf.PACKAGES.missing(PACKAGES)}")
PACKAGES_4 = int4.PACKAGES.folder(world.profile(), models_home())
needs_auto_round = pytest.mark.skipif(
    bool(int4.PACKAGES.missing(PACKAGES_4)), reason=f"the export {int4.PACKAGES.missing(PACKAGES_4)}"
)
GGUFS = ["f16", "q8_0", "q4_k_m"]
WORD = {"word": {"enum": ["abc", "please"]}}
SCHEMA = {"type": "object", "properties": WORD, "required": ["word"], "additionalProperties": False}
CHATS = [[{"role": "user", "content": f"say {word} please"}] for word in ("abcd", "hgfe", "aceg", "bbbb", "say")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a student that was never trained; its rows of 192 numbers do not fit the blocks of a k-quant."""
    folder = tmp_path_factory.mktemp("exports")
    world.build(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.1,
    )  # fmt: skip
    writer = ArtifactWriter(Folder(str(folder / "run" / "students" / "s")))
    LlamaForCausalLM(shape).save_pretrained(writer.folder.path + "/model")
    tokenizer.save_pretrained(writer.folder.path + "/model")
    writer.finish(Identity("students/s", {}, {}, "0"), RowCounts(0, {}))
    return folder


def export(folder: Path, exports: list[dict[str, Any]]) -> dict[str, ExportMetrics]:
    """Run the jobs of `exports`; return what each measured."""
    dtype = "bfloat16" if exports[0]["type"] in ("gptq", "awq") else "float32"
    student = world.student("s", dtype=dtype, exports=[{"agreement": 0.5, **each} for each in exports])
    contract = Contract.model_construct(students=(student,))

    def context_for(job: Job) -> JobContext:
        run = Folder(str(folder / "run"))
        return JobContext(job, contract, world.profile(), str(folder), models_home(), run, ArtifactWriter(run / job.name), print)

    names = [f"exports/s/{each.name}" for each in student.exports]
    needs, run = ("dataset", "students/s"), "jobs.steps.exports:run"
    jobs = [Job(name, needs=needs, reads=(f"students.s.exports.{name.rpartition('/')[2]}",), run=run) for name in names]
    run_pipeline(jobs, context_for, lambda: session(world.profile()))
    found = {name.rpartition("/")[2]: load_artifact(Folder(str(folder / "run" / name))) for name in names}
    return {name: artifact.metrics(ExportMetrics) for name, artifact in found.items() if artifact}


def transformers_texts(folder: Path, model: Any = None) -> list[str]:
    """The greedy answers of `model`, else of the student, by transformers in float32."""
    model = model or AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer, texts = AutoTokenizer.from_pretrained(folder), []
    for chat in CHATS:
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        answered = model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
        texts.append(tokenizer.decode(answered, skip_special_tokens=True))
    return texts


def served(folder: Path, name: str, model: Model, schema: Any = None) -> Evaluated:
    """Return the answers to CHATS of an evaluator's actor, as the job `reports` gets them."""
    unit = TaskUnit.model_validate({"name": "copy", "kind": "extraction", "output": {"json_schema": schema} if schema else {}})
    where = str(model_of(folder, name))
    target = EvalTarget(f"s.{name}", "student", model, {"copy": unit}, folder=where, max_tokens=20, exported_from="s")
    rows = [{"task_unit": "copy", "messages": chat, "text": chat[0]["content"], "prompt_id": str(chat)} for chat in CHATS]
    [evaluated] = flow.evaluate([target], rows, world.profile(), timed=2, progress=print)
    assert not evaluated.error
    return evaluated


def test_int8_is_served_by_vllm_under_a_schema(folder: Path, cluster: None) -> None:
    found = export(folder, [{"type": "int8"}])["int8"]
    assert found.types == {"int8": 14} and found.weight_bytes < found.student_weight_bytes
    evaluated = served(folder, "int8", VllmModel(type="vllm", path="x", max_model_len=128), SCHEMA)
    assert {json.loads(answer.text)["word"] for answer in evaluated.completions} <= {"abc", "please"}
    assert evaluated.size.weight_bytes == found.weight_bytes


def model_of(folder: Path, name: str) -> Path:
    return folder / "run" / "exports" / "s" / name / "model"


@needs_auto_round
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_4_bits_are_served_by_vllm_as_they_are_unpacked(method: str, folder: Path, cluster: None) -> None:
    found = export(folder, [{"type": method, "iterations": 5, "calibration": 16, "agreement": 0.3}])[method]
    assert found.types == {f"{method} of groups of 64": 14} and found.bits_per_weight and found.bits_per_weight < 5
    assert found.probe.agreement >= 0.3 and found.weight_bytes < found.student_weight_bytes
    model = VllmModel(type="vllm", path="x", dtype="bfloat16", max_model_len=128)
    free = served(folder, method, model)
    unpacked = probe.UnpackedChoices(model_of(folder, method), "float32").model
    texts = transformers_texts(model_of(folder, method), unpacked)
    print(method, found.probe, [answer.text for answer in free.completions], texts)
    same = sum(answer.text[:8] == text[:8] for answer, text in zip(free.completions, texts, strict=True))
    assert same >= len(CHATS) - 1  # one may have two first choices that bfloat16 does not tell apart
    held = served(folder, method, model, SCHEMA)
    assert {json.loads(answer.text)["word"] for answer in held.completions} <= {"abc", "please"}
    assert held.size.weight_bytes == found.weight_bytes


@needs_llama_cpp
def test_gguf_files_say_what_they_hold(folder: Path, cluster: None) -> None:
    found = export(folder, [{"type": "gguf", "quantize": name} for name in GGUFS])
    bits = [found[name].bits_per_weight or 0 for name in GGUFS]
    assert bits[0] > 15.9 and 8.4 < bits[1] < 8.8 and 4.5 < bits[2] < bits[1]
    assert found["q8_0"].fell_back == 0 and found["q4_k_m"].fell_back > 0
    assert all(each.probe.same_text_ids == 1.0 for each in found.values())
    assert found["f16"].probe.agreement >= 0.95 and found["q8_0"].probe.agreement >= 0.9  # an untrained model has near ties


@needs_llama_cpp
def test_llama_cpp_answers_as_transformers_and_holds_a_schema(folder: Path, cluster: None) -> None:
    export(folder, [{"type": "gguf", "quantize": "f16"}])
    model = LlamaCppModel(type="llama_cpp", path="x", packages=PACKAGES, max_model_len=128)
    free = served(folder, "f16", model)
    assert [answer.text for answer in free.completions] == transformers_texts(folder / "run" / "students" / "s" / "model")
    held = served(folder, "f16", model, SCHEMA)
    assert {answer.text for answer in held.completions} <= {'{"word":"abc"}', '{"word":"please"}'}  # as vLLM writes them
    assert [answer.finish_reason for answer in held.completions] == ["stop"] * len(CHATS)


@needs_llama_cpp
def test_model_that_the_converter_does_not_know_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    student = folder / "run" / "students" / "s" / "model"
    for path in student.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["NoSuchModel"]}))
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="NoSuchModel"):
        gguf.write(tmp_path, tmp_path / "out", "f16", PACKAGES)
    with pytest.raises(ModelError, match=r"cannot read .*'NoSuchModel' not supported"):
        gguf.check(tmp_path, PACKAGES)
    gguf.check(student, PACKAGES)
