"""`init.shrink` as it is ordered: what the contract and `rayleigh check` refuse, the steps, what people read, the benchmark."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from engine.contract.init import Init
from engine.contract.shrink import Shrink
from engine.contract.students import Student
from engine.errors import ModelError
from engine.records.student import CutRecord, StudentShape
from engine.students.init.prune import PrunedModel, parameters
from engine.students.init.source import check_shrink, check_source
from engine.students.training import recovery
from engine.students.training.progress_file import ProgressReporter, ProgressSnapshot
from jobs.bench import prune
from tests.families import tiny

SHRINK = {"source": "x", "to": "20k"}


def student(**changes: Any) -> Student:
    return Student.model_validate({"name": "s", "init": {"shrink": SHRINK}, **changes})


def folder_of(family: str, folder: Path) -> Path:
    tiny(family).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<e>": 2}, unk_token="a"))
    template = "{{ messages[0]['content'] }}{% for m in messages[1:] %}{{ m['content'] + eos_token }}{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<e>", chat_template=template)
    tokenizer.save_pretrained(folder)
    return folder


def least(**changes: Any) -> int:
    """Parameters of the tiny Llama of hidden size 32 with the fewest layers, heads and channels."""
    config = tiny("llama")
    config.update({"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, **changes})
    with torch.device("meta"):
        return parameters(AutoModelForCausalLM.from_config(config))


def test_check_knows_without_weights_what_a_source_can_be_cut_to(tmp_path: Path) -> None:
    folder = folder_of("llama", tmp_path / "llama")
    check_source(folder, student(), "Answer.")
    with pytest.raises(
        ModelError, match=rf"llama: init.shrink.to: found 1000, expected at least {least()}, the least of this source"
    ):
        check_source(folder, student(init={"shrink": {**SHRINK, "to": 1000}}), "Answer.")
    with pytest.raises(ModelError, match=r"found 900000, expected less than the \d+ parameters of the source"):
        check_source(folder, student(init={"shrink": {**SHRINK, "to": "900k"}}), "Answer.")
    with pytest.raises(ModelError, match=r"depth: true, width: false, hidden: false"):
        check_source(folder, student(init={"shrink": {**SHRINK, "to": 6000, "width": False}}), "Answer.")


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("qwen3_moe", {}, r"Qwen3MoeForCausalLM cannot be cut in width.*mixtures of experts"),
        ("phi3", {}, r"Phi3ForCausalLM cannot be cut in width: its layers have no self_attn.q_proj.*fused"),
        ("gemma", {"hidden": True}, r"init.shrink.hidden: found true, and gemma derives more"),
    ],
)
def test_check_refuses_sources_that_cannot_be_cut(family: str, changes: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        check_source(folder_of(family, tmp_path), student(init={"shrink": {**SHRINK, **changes}}), "Answer.")


def test_what_cannot_be_known_or_trained_is_refused_in_the_contract() -> None:
    with pytest.raises(ValidationError, match=r"freeze_layers: found it with init.shrink, expected 0"):
        student(freeze_layers=1)
    with pytest.raises(ValidationError, match="adapter: found one with shrink, expected none"):
        student(init={"shrink": SHRINK, "adapter": {}})
    with pytest.raises(ValidationError, match="found prune and shrink, expected exactly one"):
        student(init={"shrink": SHRINK, "prune": {"source": "x", "layers": [0]}})


def test_a_student_without_the_key_is_dumped_as_before() -> None:
    init = Init.model_validate({"prune": {"source": "x", "layers": [0, 1]}})
    assert init.model_dump(mode="json") == {"prune": {"source": "x", "layers": [0, 1]}}
    assert student().init.summary == "x cut to 20000 parameters by importance in 1 step"


def whole() -> PrunedModel:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny("llama"))
    return PrunedModel(model, None, 4, parameters(model))


def test_recovery_comes_between_cuts_and_the_training_itself_after_the_last() -> None:
    found = recovery.steps(whole(), Shrink.model_validate({**SHRINK, "steps": 3}))
    assert [step.name for step in found] == ["cut-1", "recovered-1", "cut-2", "recovered-2", "cut-3"]
    assert [step.target for step in found][::2][-1] == 20_000 and found[1].target is None
    alone = recovery.steps(whole(), Shrink.model_validate({**SHRINK, "steps": 2, "recover_steps": 0}))
    assert [step.name for step in alone] == ["cut-1", "cut-2"]


def test_a_share_is_one_of_the_source_before_its_vocabulary_was_trimmed() -> None:
    trimmed = SimpleNamespace(**{**vars(whole()), "source_parameters": 40_000})
    [step] = recovery.steps(trimmed, Shrink(source="x", to=0.5))  # type: ignore[arg-type]
    assert step.target == 20_000


def shape() -> StudentShape:
    cut = CutRecord(
        target=12_000_000, parameters=11_900_000, layers=2, heads=6, kv_heads=2, intermediate=640, hidden=576, tried=16,
        loss_before=0.5, loss=4.25,
    )  # fmt: skip
    return StudentShape(
        layers=[0, 2],
        head_size=64,
        measure="influence",
        layer_importance=[0.5, 0.125, 0.25],
        cuts=[cut],
        recover_steps=0,
        seconds=1,
    )


def test_the_shape_in_one_line_names_what_is_left_and_why() -> None:
    assert shape().as_text() == (
        "2 layers (0, 2 of 3), 6 query heads and 2 key-value heads of 64, feed-forward 640, hidden 576; cut to 11.9 M (loss 4.25); "
        "influence of each layer: 0: 0.5, 1: 0.12, 2: 0.25"
    )


def test_progress_names_the_recovery_and_starts_its_clock_anew() -> None:
    lines: list[str] = []
    reporter = ProgressReporter("s", lines.append)
    reporter.last_time = 0.0
    reporter(ProgressSnapshot(3, 50, 90, 2.0, None, phase="recovery 1 of 2"))
    reporter.last_time = 0.0
    reporter(ProgressSnapshot(1, 100, 30, 1.5, None))
    assert lines == ["students/s: recovery 1 of 2, step 3 of 50, loss 2.000", "students/s: step 1 of 100, loss 1.500"]


def test_the_benchmark_gives_both_sides_the_same_recipe_and_size() -> None:
    chosen = Student.model_validate(
        {"name": "s", "init": {"prune": {"source": "x", "layers": [0, 1]}, "vocabulary": {}}, "freeze_layers": 1, "epochs": 4}
    )
    order = prune.Order(seeds=2, steps=3, recover_steps=7)
    by_hand, cut = prune.copy(chosen, "layers", 1, order), prune.copy(chosen, "shrink", 1, order, to=20_000)
    assert (by_hand.name, cut.name, by_hand.seed) == ("s-layers-1", "s-shrink-1", 1)
    assert (
        cut.init.shrink == Shrink(source="x", to=20_000, steps=3, recover_steps=7) and cut.init.vocabulary == chosen.init.vocabulary
    )
    assert cut.model_copy(update={"name": "", "init": None}) == by_hand.model_copy(update={"name": "", "init": None})
    jobs = [job for wave in prune.evaluations([by_hand, cut]) for job in wave]
    assert [job.needs for job in jobs] == [("prompts", "students/s-layers-1", "students/s-shrink-1")]


def test_a_target_that_a_trimmed_vocabulary_leaves_no_room_for_is_known_with_the_tokens(tmp_path: Path) -> None:
    config = tiny("llama")
    config.vocab_size = 1000
    config.save_pretrained(tmp_path)

    def ordered(to: int) -> Student:
        return student(init={"shrink": {**SHRINK, "to": to}, "vocabulary": {}})

    with pytest.raises(ModelError, match="expected at least") as refused:
        check_shrink(tmp_path, ordered(1000), 300)
    least_with_300 = int(re.findall(r"expected at least (\d+)", str(refused.value))[0])
    check_shrink(tmp_path, ordered(least_with_300), 300)
    rows = config.hidden_size * (1 if config.tie_word_embeddings else 2)
    with pytest.raises(ModelError, match=f"expected at least {least_with_300 + 600 * rows}"):
        check_shrink(tmp_path, ordered(least_with_300), 900)
