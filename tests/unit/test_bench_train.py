"""The ratios of `bench train`, what it refuses, and the capture that it makes up."""

import numpy as np
import pytest
from made_run import made_run
from tokenizer_world import TEMPLATE, byte_level
from transformers import PreTrainedTokenizerFast

from engine.capture.compact import probabilities, unpack
from engine.capture.schemas import CAPTURE
from engine.contract.models import VllmModel
from engine.contract.students import Student
from engine.errors import InputError
from engine.records.record import Identity
from engine.rows import EXAMPLE, from_rows
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder
from engine.students.data import capture_files
from engine.students.data.pack import Packed
from engine.students.training.state import TrainSpec
from jobs.bench import train, train_capture, train_sides, train_time
from jobs.bench.train import Comparison, Order, TrainBench, ratios, ways
from jobs.bench.train_time import Clock, Spent
from jobs.bench.turns import Round

ROUNDS = [
    {"trl": Round(100, 8.0), "recipe": Round(100, 2.0)},
    {"trl": Round(100, 10.0), "recipe": Round(100, 5.0)},
    {"trl": Round(100, 9.0), "recipe": Round(100, 3.0)},
]


def test_ratio_is_taken_within_a_round():
    [found] = ratios(ROUNDS, [Comparison("trl", "recipe")])
    assert (found.value, found.low, found.high) == (3.0, 2.0, 4.0)
    assert ways(ROUNDS)["recipe"].tokens_per_second == 33.3 and ways(ROUNDS)["trl"].seconds == [8.0, 10.0, 9.0]


def test_text_has_a_line_for_each_way_and_ratio():
    found = TrainBench(
        run="r", student="s", steps=2, rounds=3, tokens=100, capture="made-up", teacher_tokens=0, ways=ways(ROUNDS),
        ratios=ratios(ROUNDS, [Comparison("trl", "recipe")]), spent=(Spent(part="recipe", start=31.4, rounds=[10.0, 15.0, 12.0]),),
    )  # fmt: skip
    text = train.as_text(found)
    assert [line.split() for line in text.splitlines()][-1] == ["recipe", "31", "10", "15", "12"]
    assert "capture: made-up, 0 teacher tokens read" in text and "trl / recipe      3  2.0 to 4.0" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("trl  ", "recipe "))] == ["trl", "recipe", "recipe"]


@pytest.mark.parametrize(
    ("minutes", "took", "rounds"), [(12, [100, 100, 100], 3), (5, [100, 100, 100], 2), (0, [100], 1), (9, [90, 200, 90], 2)]
)
def test_no_round_begins_that_would_not_end_within_the_minutes(monkeypatch, minutes, took, rounds):
    now, lines = [0.0], []
    monkeypatch.setattr(train_time.time, "monotonic", lambda: now[0])
    clock, done = Clock(3, minutes, lines.append), []
    now[0] = 60.0  # until the processes were ready
    while clock.goes_on(done):
        done.append(took[len(done)])
        now[0] += done[-1]
    assert len(done) == rounds and ("no further round" in lines[-1]) is (rounds < 3)


def test_part_or_student_that_is_none_is_refused(tmp_path):
    run = made_run(str(tmp_path / "run"), tmp_path / "seeds").folder.url
    with pytest.raises(InputError, match="--part: found 'speed', expected one of recipe, job, objectives, students"):
        train.bench(run, order=Order(None, 1, 1, ["speed"]), profile="laptop")
    with pytest.raises(InputError, match="--student: found 'huge', expected one of small, large"):
        train.bench(run, order=Order("huge", 1, 1, ["recipe"]), profile="laptop")


def test_student_is_measured_by_sft_alone_and_with_no_end_but_its_steps():
    section = {"name": "s", "init": {"prune": {"source": "m", "layers": [0, 1]}}, "freeze_layers": 1}
    more = {"metric": "exact_match", "max_seconds": 5, "schedule": "wsd", "objectives": {"sft": 0, "forward_kl": 1}, "seeds": 3}
    assert train.plain(Student.model_validate({**section, **more})) == Student.model_validate({**section, "early_stop": None})
    cut = {"name": "s", "init": {"shrink": {"source": "m", "to": "1M"}}}
    with pytest.raises(InputError, match=r"s has init\.shrink, whose cuts are no part of its loop"):
        train.plain(Student.model_validate(cut))


def test_batches_of_a_round_are_those_of_the_first_epochs():
    lengths = np.array([3, 4, 5, 6, 7])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    packed = Packed(np.arange(25, dtype=np.int32), starts, np.ones(5, np.int32), np.ones(5, np.float32), np.zeros(5, np.int32), 0)
    student = Student.model_validate({"name": "s", "init": {"model": {"source": "m"}}, "batch_size": 2, "micro_batch_size": 2})
    spec = TrainSpec(student, "m", "d", "cpu", "t", "k")
    rows = train_sides.batches(packed, spec, 6)
    assert len(rows) == 6 and sorted(int(row) for each in rows[:3] for row in each) == [-1, 0, 1, 2, 3, 4]
    assert train_sides.tokens_of(packed, rows[:3]) == 25


def test_made_up_capture_can_be_laid_on_the_examples(tmp_path):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(), bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "teacher")
    targets = ["order two mails", "the quick brown fox", "lazy dogs"]
    rows = [{"example_id": f"e{at}", "target": target, "split": "train", "weight": 1.0} for at, target in enumerate(targets)]
    writer = ArtifactWriter(Folder(str(tmp_path / "dataset")))
    writer.put("examples", from_rows(rows, EXAMPLE), EXAMPLE)
    dataset = writer.finish(Identity("dataset", {}, {}, "0"), RowCounts(3, {"kept": 3}))
    model = VllmModel(type="vllm", path="teacher")
    made = train_capture.capture(dataset, model, tmp_path / "teacher", Folder(str(tmp_path / "capture")))
    stored = unpack(made.read("captured", CAPTURE).to_pylist()[0])
    probs, tails = probabilities(stored)
    assert np.allclose(np.bincount(stored.tokens, probs) + tails, 1) and len(probs) == 10 * len(tails)  # 11 words occur

    ids = [[1, *tokenizer.encode(target, add_special_tokens=False), tokenizer.eos_token_id] for target in targets]
    starts = np.cumsum([0, *map(len, ids)])
    flat = np.concatenate(ids).astype(np.int32)
    packed = Packed(
        flat, starts, np.ones(3, np.int32), np.ones(3, np.float32), np.zeros(3, np.int32), 0,
        example_ids=np.array([row["example_id"] for row in rows], "S2"),
    )  # fmt: skip
    teacher = capture_files.load(made, packed, tokenizer, key="0", home=tmp_path / "files")
    assert teacher.gate.all() and len(teacher.gate) == sum(map(len, ids)) - 3
    assert np.diff(teacher.starts).min() >= 2
