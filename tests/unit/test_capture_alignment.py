"""A capture read for students: the same tokenizer, one that was cut from the teacher's, and one of another family."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.capture.compact import entries, pack
from engine.capture.schemas import CAPTURE, VOCABULARY
from engine.contract.objectives import Divergence, Objectives, Uld
from engine.contract.students import Student
from engine.errors import InputError
from engine.inference.scoring import Distribution
from engine.inference.token_bytes import special_ids, token_bytes
from engine.records.capture import CaptureMetrics, TeacherCapture
from engine.records.record import Identity
from engine.records.student import TrainingSetup
from engine.rows import TOKENS, from_rows
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.students.data import capture_files
from engine.students.data.aligned import Aligner, by_example
from engine.students.data.captured import Captured
from engine.students.data.pack import Packed, collate
from engine.students.init.prune import PrunedModel
from engine.students.objectives import OBJECTIVES
from engine.students.objectives.outputs import Outputs
from engine.students.training import setup
from engine.students.training.state import TrainSpec
from jobs.steps import training_data

MEASURED = {
    "examples": 1, "masked": 0, "target_tokens": 1, "tokens_read": 1, "agreement": 1.0, "mean_k": 1.0, "mean_tail": 0.0,
    "bytes_per_token": 1.0,
}  # fmt: skip


def tokenizer(merges: list[tuple[str, str]], *, first: tuple[str, ...] = ("<s>", "</s>")) -> Any:
    """A byte-level tokenizer with these merges."""
    words = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [word for word in dict.fromkeys(left + right for left, right in merges) if word not in words]
    bare = Tokenizer(models.BPE(vocab={word: at for at, word in enumerate(words)}, merges=merges))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bare.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>")


TEACHER = tokenizer([("a", "b"), ("c", "d"), ("ab", "cd"), ("x", "y")])
CUT = tokenizer([("a", "b"), ("c", "d"), ("x", "y")])
OTHER = tokenizer([("x", "y"), ("b", "c"), ("xy", "ab"), ("a", "b"), ("xy", "a")], first=("<pad>", "</s>", "<s>"))


def ids(of: Any, text: str) -> list[int]:
    return [*of(text, add_special_tokens=False)["input_ids"], of.eos_token_id]


def distribution(text: str, choices: dict[int, dict[str, float]]) -> Distribution:
    """The teacher's distribution over `text`: at token t the words `choices[t]`, else the target with 0.9, the rest is tail."""
    tokens = ids(TEACHER, text)
    rows = [choices.get(at, {TEACHER.convert_ids_to_tokens(token): 0.9}) for at, token in enumerate(tokens)]
    words, probs = np.full((len(tokens), 4), -1, np.int32), np.zeros((len(tokens), 4))
    for at, row in enumerate(rows):
        for rank, (word, prob) in enumerate(sorted(row.items(), key=lambda item: -item[1])):
            words[at, rank], probs[at, rank] = TEACHER.convert_tokens_to_ids(word), prob
    own = [row.get(TEACHER.convert_ids_to_tokens(token), 0.01) for row, token in zip(rows, tokens, strict=True)]
    with np.errstate(divide="ignore"):
        logs = [np.log(each).astype(np.float32) for each in (probs, np.array(own), np.maximum(1 - probs.sum(axis=1), 0.0))]
        return Distribution(np.array(tokens, np.int32), words, logs[0], logs[1], logs[2], 1)


def artifact(folder: Path, gate: str = "none", **teachers: tuple[float | None, list[tuple[str, Distribution]]]) -> Artifact:
    writer = ArtifactWriter(Folder(str(folder / "capture")))
    special, rows, vocabulary = special_ids(TEACHER), [], []
    for teacher, (_, scored) in teachers.items():
        same = {"teacher": teacher, "finish_reason": "stop", "error": "", "masked": False, "tokens": 1, "tokens_in": 1}
        rows += [{**same, "example_id": name, **pack(entries(each))} for name, each in scored]
        vocabulary += [
            {"teacher": teacher, "id": at, "text": text, "special": at in special, "ends": at == TEACHER.eos_token_id}
            for at, text in enumerate(token_bytes(TEACHER))
        ]
    writer.put("captured", from_rows(rows, CAPTURE), CAPTURE)
    writer.put("vocabulary", from_rows(vocabulary, VOCABULARY), VOCABULARY)
    measured = {name: TeacherCapture.model_validate({**MEASURED, "weight": weight}) for name, (weight, _) in teachers.items()}
    writer.metrics = CaptureMetrics.model_validate({"constraint": "none", "gate": gate, "teachers": measured, "tokens_paid": 0})
    return writer.finish(Identity("capture", {}, {}, "0"), RowCounts(1, {"captured": 1}))


def packed(of: Any, names: str, *texts: str) -> Packed:
    """Targets behind a prompt of two tokens."""
    pieces = [[5, 6, *ids(of, text)] for text in texts]
    starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    rest = np.full(len(texts), 2, np.int32), np.ones(len(texts), np.float32), np.zeros(len(texts), np.int32)
    return Packed(np.concatenate(pieces).astype(np.int32), starts, *rest, 0, np.array(names.split(), "S"))


def captured(made: Artifact, examples: Packed, of: Any) -> Captured:
    return capture_files.load(made, examples, of, key=str(id(of)), home=Path(made.folder.path).parent / "files")


def words(found: Any, of: Any, token: int) -> dict[str, float]:
    part = slice(found.starts[token], found.starts[token + 1])
    return {
        of.convert_ids_to_tokens(int(word)): float(np.exp(log))
        for word, log in zip(found.ids[part], found.logprobs[part], strict=True)
    }


def test_the_same_tokenizer_reads_what_was_captured_in_the_order_of_the_examples(tmp_path) -> None:
    scored = [("b", distribution("abcdxy", {0: {"abcd": 0.6, "ab": 0.3}})), ("a", distribution("xy", {}))]
    found = captured(artifact(tmp_path, t=(None, scored)), packed(TEACHER, "a b-again2 c", "xy", "abcdxy", "xy"), TEACHER)
    assert found.starts.tolist() == [0, 1, 2, 4, 5, 6, 6, 6] and found.gate.tolist() == [True] * 5 + [False] * 2
    assert words(found, TEACHER, 2) == pytest.approx({"abcd": 0.6, "ab": 0.3}, rel=0.03)
    assert np.exp(found.tail) == pytest.approx([0.1] * 5 + [1.0] * 2, rel=0.05)
    assert words(found, TEACHER, 4) == pytest.approx({"</s>": 0.9}, rel=0.03)


def test_a_cut_vocabulary_gets_the_mass_of_a_lost_word_at_its_first_part_and_then_at_the_next(tmp_path) -> None:
    scored = distribution("abcdxy", {0: {"abcd": 0.6, "ab": 0.2, "x": 0.1}, 1: {"xy": 0.5, "abcd": 0.4}})
    found = captured(artifact(tmp_path, t=(None, [("a", scored)])), packed(CUT, "a", "abcdxy"), CUT)
    assert [CUT.convert_ids_to_tokens(token) for token in ids(CUT, "abcdxy")] == ["ab", "cd", "xy", "</s>"] and found.gate.all()
    assert words(found, CUT, 0) == pytest.approx({"ab": 0.8, "x": 0.1}, rel=0.03)
    assert words(found, CUT, 1) == pytest.approx({"cd": 0.6 / 0.9}, rel=0.05)  # `ab` alone says nothing of what follows
    assert words(found, CUT, 2) == pytest.approx({"xy": 0.5, "ab": 0.4}, rel=0.03)
    total = np.bincount(np.repeat(np.arange(4), np.diff(found.starts)), np.exp(found.logprobs)) + np.exp(found.tail)
    assert total == pytest.approx(1)


def test_another_family_is_merged_by_bytes_and_what_crosses_is_gated_off(tmp_path) -> None:
    texts = {"whole": "xyab", "within": "abcdab"}
    spelled = [OTHER.convert_ids_to_tokens(ids(OTHER, text)) for text in texts.values()]
    assert spelled == [["xyab", "</s>"], ["a", "bc", "d", "ab", "</s>"]]
    scored = [("whole", distribution("xyab", {0: {"xy": 0.5, "ab": 0.4}, 1: {"abcd": 0.7, "ab": 0.2}}))]
    scored.append(("within", distribution("abcdab", {0: {"abcd": 0.9}})))
    found = captured(artifact(tmp_path, t=(None, scored)), packed(OTHER, " ".join(texts), *texts.values()), OTHER)
    assert words(found, OTHER, 0) == pytest.approx({"xyab": 0.5 * 0.2}, rel=0.06) and np.exp(found.tail[0]) == pytest.approx(
        0.9, rel=0.02
    )
    assert found.gate.tolist() == [True, True, True, True, True, True, True]  # `abcd` is spelled a, bc, d by both
    split = [("crosses", distribution("abab", {}))]
    crossed = captured(artifact(tmp_path, t=(None, split)), packed(TWO, "crosses", "abab"), TWO)
    assert [TWO.convert_ids_to_tokens(token) for token in ids(TWO, "abab")] == ["a", "ba", "b", "</s>"]
    assert crossed.gate.tolist() == [True, False, False, True]


TWO = tokenizer([("b", "a")])


def test_uld_does_not_ask_which_of_the_students_words_is_the_teachers(tmp_path) -> None:
    """The teacher's `xy` is laid on the student's `xy`, while the student, which has longer words, would go on with `xya`."""
    scored = [("a", distribution("xyd", {0: {"xy": 0.75, "ab": 0.2}, 1: {"d": 1.0}, 2: {"</s>": 1.0}}))]
    examples = packed(OTHER, "a", "xyd")
    laid = replace(examples, teacher=captured(artifact(tmp_path, t=(None, scored)), examples, OTHER))
    batch = collate(laid, np.array([0]), pad=0)
    assert batch.teacher is not None and batch.teacher.gate.all()

    def losses(name: str, section: Any, *first: float) -> list[float]:
        probs = torch.full((3, len(OTHER)), 1e-7)
        probs[0], probs[1, OTHER.convert_tokens_to_ids("d")], probs[2, OTHER.eos_token_id] = 0.05 / len(OTHER), 1.0, 1.0
        probs[0, OTHER.convert_tokens_to_ids(["xya", "ab"])] = torch.tensor(first)
        return OBJECTIVES[name].loss(Outputs((probs / probs.sum(1, keepdim=True)).log()), batch, section).tolist()

    assert (
        losses("uld", Uld(), 0.75, 0.2) == pytest.approx([0.0] * 3, abs=0.02)
        and losses("forward_kl", Divergence(), 0.75, 0.2)[0] > 1
    )
    assert losses("uld", Uld(), 0.5, 0.45) == pytest.approx([0.5, 0.0, 0.0], abs=0.02)


def test_only_tokens_where_the_teacher_agrees_pass_the_gate(tmp_path) -> None:
    scored = [("a", distribution("abcdxy", {0: {"ab": 0.6, "abcd": 0.3}}))]
    found = captured(artifact(tmp_path, "agree", t=(None, scored)), packed(TEACHER, "a", "abcdxy"), TEACHER)
    assert found.gate.tolist() == [False, True, True]


def test_teachers_are_mixed_by_weight_over_those_that_scored_the_token(tmp_path) -> None:
    both = distribution("xy", {0: {"xy": 0.8, "x": 0.2}})
    one = distribution("xy", {0: {"x": 1.0}})
    mixture = artifact(tmp_path, s=(0.75, [("a", both)]), t=(0.25, [("a", one), ("b", one)]))
    found = captured(mixture, packed(TEACHER, "a b", "xy", "xy"), TEACHER)
    assert words(found, TEACHER, 0) == pytest.approx({"xy": 0.6, "x": 0.4}, rel=0.05)
    assert words(found, TEACHER, 2)["x"] == pytest.approx(0.99, rel=0.02)


def test_workers_of_a_node_map_what_was_laid_out_once_and_a_damaged_file_is_made_anew(tmp_path, monkeypatch) -> None:
    scored = [(name, distribution("abcdxy", {0: {"ab": 0.6, "abcd": 0.3}})) for name in ("01", "01-contrast", "02", "04")]
    made, examples = artifact(tmp_path, t=(None, scored)), packed(CUT, "01 01-again1 01-contrast 03 04", *["abcdxy"] * 5)
    first, laid = captured(made, examples, CUT), list[int]()
    values = {name: getattr(first, name).tolist() for name in Captured.__dataclass_fields__}
    example = Aligner.example
    monkeypatch.setattr(Aligner, "example", lambda *given: laid.append(1) or example(*given))
    second = captured(made, examples, CUT)
    assert isinstance(second.ids, np.memmap) and not second.ids.flags.writeable and not laid
    assert {name: getattr(second, name).tolist() for name in values} == values
    [path] = (tmp_path / "files").rglob("logprobs")
    path.write_bytes(path.read_bytes()[:-4] + b"junk")
    third = captured(made, examples, CUT)
    assert {name: getattr(third, name).tolist() for name in values} == values
    assert len(laid) == 5 and first.gate.reshape(5, 4).all(axis=1).tolist() == [True, True, True, False, True]
    gate = artifact(tmp_path / "other", "agree", t=(None, scored))
    assert not captured(gate, examples, CUT).gate.reshape(5, 4)[0].all()  # another capture is another file


def test_an_answer_and_its_examples_are_read_at_a_time(tmp_path, monkeypatch) -> None:
    ids = [f"{number:04}" for number in range(2500)]
    made = artifact(tmp_path, t=(None, [(name, distribution("xy", {})) for name in ids]))
    held: list[int] = []
    monkeypatch.setattr(capture_files, "by_example", lambda rows: held.append(len(found := by_example(rows))) or found)
    found = captured(made, packed(TEACHER, " ".join(ids), *["xy"] * 2500), TEACHER)
    assert found.gate.all() and len(found.gate) == 5000 and held == [1] * 2500


def test_a_word_beyond_the_tokenizer_is_tail_and_another_ending_is_white_space(tmp_path) -> None:
    wide = distribution("xy", {0: {"xy": 0.5, "x": 0.3}})
    beyond = wide._replace(ids=np.where(wide.ids == TEACHER.convert_tokens_to_ids("x"), len(TEACHER) + 5, wide.ids))
    found = captured(artifact(tmp_path, t=(None, [("a", beyond)])), packed(TEACHER, "a", "xy"), TEACHER)
    assert words(found, TEACHER, 0) == pytest.approx({"xy": 0.5}, rel=0.05)
    longer = artifact(tmp_path / "n", t=(None, [("a", distribution("xy\n", {}))]))
    apart = captured(longer, packed(TEACHER, "a", "xy"), TEACHER)  # the teacher ends a turn with a line break before its mark
    assert apart.gate.tolist() == [True, False]
    assert captured(longer, packed(TEACHER, "a", "xy\n"), TEACHER).gate.all()
    shorter = artifact(tmp_path / "s", t=(None, [("a", distribution("xy", {}))]))
    assert captured(shorter, packed(TEACHER, "a", "xy\n"), TEACHER).gate.tolist() == [True, False, False]


def test_a_text_that_is_not_the_captured_one_has_no_distribution(tmp_path) -> None:
    found = captured(artifact(tmp_path, t=(None, [("a", distribution("xy", {}))])), packed(TEACHER, "a", "ab"), TEACHER)
    assert not found.gate.any() and not len(found.ids) and found.tail.tolist() == [0.0, 0.0]
    assert pa.types.is_binary(CAPTURE.field("ids").type)


def examples(tmp_path: Path, made: Artifact, objectives: dict[str, Any]) -> tuple[TrainSpec, dict[str, Packed]]:
    """Three examples, the third of which no test captures, as a training on the capture `made` loads them."""
    rows = [
        {
            "example_id": name, "split": split, "kind": "answer", "ids": [5, 6, *ids(CUT, text)], "target_start": 2, "weight": 1.0,
            "spans": [], "difficulty": "easy",
        }
        for name, split, text in (("01", "train", "abcdxy"), ("02", "validation", "abcdxy"), ("03", "train", "xy"))
    ]  # fmt: skip
    writer = ArtifactWriter(Folder(str(tmp_path / "tokens")))
    writer.put("examples_k", from_rows(rows, TOKENS), TOKENS)
    tokens = writer.finish(Identity("tokens", {}, {}, "0"), RowCounts(3, {"tokenised": 3}))
    section = {"name": "s", "init": {"model": {"source": "x"}}, "objectives": objectives}
    spec = TrainSpec(Student.model_validate(section), "", "", "cpu", tokens.folder.path, "k", capture=made.folder.path)
    return spec, setup.load_examples(spec, tokens, PrunedModel(None, CUT, 1, 1))


def test_a_training_reads_a_capture_for_the_examples_of_each_split(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = artifact(tmp_path, t=(None, [(name, distribution("abcdxy", {})) for name in ("01", "02")]))
    _, splits = examples(tmp_path, made, {"forward_kl": 1})
    batch = collate(splits["train"], np.array([1, 0, -1]), pad=0)
    assert batch.teacher is not None and batch.teacher.gate.tolist() == [False] * 2 + [True] * 4
    assert batch.teacher.ids[2:, 0].tolist() == batch.labels[2:].tolist()
    validation = splits["validation"].teacher
    assert validation is not None and validation.gate.tolist() == [True] * 4


def test_a_split_of_which_a_capture_covers_nothing_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = artifact(tmp_path / "other", t=(None, [(name, distribution("ab", {})) for name in ("01", "02")]))
    with pytest.raises(
        InputError, match=r"no target token of the train split .* 1 of 1 targets were scored \(none lost"
    ) as refused:
        examples(tmp_path, other, {"sft": 0, "forward_kl": 1})
    assert "budget.teacher_tokens" in str(refused.value) and str(other.folder) in str(refused.value)
    half = artifact(tmp_path / "half", t=(None, [("01", distribution("abcdxy", {}))]))
    with pytest.raises(InputError, match="no target token of the validation split"):
        examples(tmp_path, half, {"forward_kl": 1})
    examples(tmp_path, other, {"forward_kl": 0, "by_kind": {"refusal": {"forward_kl": 1}}})  # for no example here
    examples(tmp_path, other, {"sft": 1})


def test_a_training_says_of_which_share_of_a_split_it_uses_the_capture(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scored = [("02", distribution("abcdxy", {})), ("03", distribution("xy", {}))]
    made = artifact(tmp_path, t=(None, scored))
    spec, splits = examples(tmp_path, made, {"forward_kl": 1})
    shares = {name: setup.covered(split, spec.student) for name, split in splits.items()}
    assert shares == {"train": pytest.approx(1 / 3), "validation": 1.0}
    assert setup.covered(splits["train"], spec.student.model_copy(update={"objectives": Objectives()})) is None
    found = TrainingSetup(
        parameters=1, source_parameters=1, source_layers=1, examples={}, too_long=0, covered={"train": 1 / 3, "validation": 1.0}
    )
    rows, metrics = RowCounts(8, {"captured": 2, "too_long": 5, "copies": 1}), made.record.metrics | {"aligned": {"k": 0.625}}
    record = made.record.model_copy(update={"row_counts": rows, "metrics": metrics})
    [warning] = training_data.uncovered(spec.student, found, replace(made, record=record), "k")
    assert "is used at 33.3% of the target tokens of the train split, at the others forward_kl is 0: " in warning
    assert "2 of 7 targets were scored (5 too_long); 62.5% of the tokens of a sample can be laid on" in warning
