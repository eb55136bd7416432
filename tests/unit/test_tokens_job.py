"""The job `tokens`: each example once for each different tokenizer, in the order of ids, and only for a student that is trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import jobs.pipeline
from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.contract.students import Student
from engine.errors import InputError, ModelError, RecipeMismatch
from engine.records.record import Identity
from engine.records.tokens import TokensMetrics
from engine.rows import EXAMPLE, PREFERENCE, TOKENS, from_rows
from engine.runs.job import Job, JobContext, run_job, run_pipeline
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import table_of, write_shard
from engine.students.data import preflight
from engine.students.init.tokenizer import fetch, key_of
from jobs.pipeline import student_job, tokens_job
from tests.small_tokenizer import TURN, template, write

trained: list[str] = []


def train(context: JobContext) -> RowCounts:
    """A fake training."""
    trained.append(context.job.name)
    return RowCounts(1, {"trained": 1})


def student(name: str, source: str = "a") -> Student:
    return Student.model_validate({"name": name, "init": {"prune": {"source": source, "layers": [0]}}})


def example(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "example_id": f"{number * 7 % 30:03}", "messages": [{"role": "user", "content": "snow " * (number + 1)}], "kind": "answer",
        "target": f"white {number}", "final": f"white {number}", "weight": 1.0, "split": "train", "difficulty": "easy", **changes,
    }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources `a`, `copy` (the same tokenizer) and `other`, and a dataset of 30 examples in three shards."""
    trained.clear()
    monkeypatch.setattr(jobs.pipeline, "TRAIN", f"{__name__}:train")
    write(tmp_path / "a", template())
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    write(tmp_path / "other", template(begin="</s>"))
    dataset(tmp_path, [example(number) for number in range(30)])
    return tmp_path


def dataset(root: Path, rows: list[dict[str, Any]], pairs: list[dict[str, Any]] | None = None) -> None:
    writer = ArtifactWriter(Folder(str(root / "run" / "dataset")))
    parts = [from_rows(rows[start : start + 10], EXAMPLE) for start in range(0, len(rows), 10)]
    writer.tables["examples"] = table_of([write_shard(writer.folder / "examples", part, EXAMPLE) for part in parts], str(len(rows)))
    if pairs:
        writer.put("preferences", from_rows(pairs, PREFERENCE), PREFERENCE)
    writer.finish(Identity("dataset", {}, {}, "0"), RowCounts(len(rows), {"picked": len(rows)}))


def context(root: Path, job: Job, students: list[Student]) -> JobContext:
    run = Folder(str(root / "run"))
    contract = Contract.model_construct(students=tuple(students), warn_above=1.0)
    return JobContext(job, contract, Profile(name="toy"), str(root), str(root), run, ArtifactWriter(run / job.name))


def drive(root: Path, *students: Student) -> list[str]:
    line = [tokens_job(), *(student_job(f"students/{one.name}") for one in students)]
    return run_pipeline(line, lambda job: context(root, job, list(students)))


def test_each_example_is_tokenised_once_for_each_tokenizer_in_the_order_of_ids(root: Path, tmp_path: Path) -> None:
    students = [student("one"), student("two", "copy"), student("three", "other")]
    artifact = run_job(context(root, tokens_job(), students))
    assert artifact.record.row_counts.rows_out == {"tokenised": 30}
    first, second = artifact.metrics(TokensMetrics).tokenizers
    assert (first.students, second.students) == (["one", "two"], ["three"]) and first.key != second.key
    rows = artifact.read(f"examples_{first.key}", TOKENS).to_pylist()
    assert [row["example_id"] for row in rows] == sorted(row["example_id"] for row in rows)
    assert first.tokens == sum(len(row["ids"]) for row in rows) and first.longest == max(len(row["ids"]) for row in rows)
    tokenizer = preflight.load(fetch(artifact, key_of(artifact, students[1]), tmp_path / "fetched"))
    assert tokenizer.decode(rows[0]["ids"]) == "<s>user\nsnow </s><s>assistant\nwhite 0</s>"
    other = artifact.read(f"examples_{second.key}", TOKENS).to_pylist()
    assert other[0]["ids"] == [tokenizer.eos_token_id, *rows[0]["ids"]]


def test_a_vocabulary_is_trimmed_to_the_texts_of_preference_pairs_where_a_student_reads_them(root: Path) -> None:
    turns = {name: [{"role": role, "content": text}] for name, role, text in PAIR}
    row = {**turns, "pair_id": "p", "split": "train", "margin": 0.5}
    dataset(root, [example(number) for number in range(5)], [row])
    trims = {"model": {"source": "a"}, "vocabulary": {}}
    plain = Student.model_validate({"name": "plain", "init": trims})
    pairs = Student.model_validate({"name": "pairs", "init": trims, "objectives": {"sft": 0, "dpo": 1}})
    artifact = run_job(context(root, tokens_job(), [plain, pairs]))
    fewer, more = (summary.words for summary in artifact.metrics(TokensMetrics).tokenizers)
    words = [preflight.load(fetch(artifact, key_of(artifact, each), root / each.name)) for each in (plain, pairs)]
    whole = preflight.load(root / "a")
    for _, _, text in PAIR:
        assert words[1].tokenize(text) == whole.tokenize(text) != words[0].tokenize(text)
    assert fewer < more < len(whole)


PAIR = (("prompt", "user", "What"), ("chosen", "assistant", "It is the colour"), ("rejected", "assistant", "of what"))


def test_a_dataset_without_examples_has_no_tokens(root: Path) -> None:
    writer = ArtifactWriter(Folder(str(root / "run" / "dataset")))
    writer.tables["examples"] = table_of([], "0")
    writer.finish(Identity("dataset", {}, {}, "0"), RowCounts(1, {"dropped": 1}))
    artifact = run_job(context(root, tokens_job(), [student("one")]))
    assert artifact.record.row_counts.rows_out == {"tokenised": 0}


def test_tokens_are_made_for_a_training_only(root: Path) -> None:
    assert drive(root, student("one")) == ["tokens", "students/one"]
    shutil.rmtree(root / "run" / "tokens")
    assert drive(root, student("one")) == []  # a student of a version without tokens is as current
    assert drive(root, student("one"), student("two", "a")) == ["tokens", "students/two"]


def test_student_with_another_tokenizer_needs_tokens_anew_and_the_others_stay(root: Path) -> None:
    drive(root, student("one"))
    with pytest.raises(RecipeMismatch, match=r"delete only .*/run/tokens"):
        drive(root, student("one"), student("two", "other"))
    shutil.rmtree(root / "run" / "tokens")
    assert drive(root, student("one"), student("two", "other")) == ["tokens", "students/two"]
    assert trained == ["students/one", "students/two"]


def test_source_with_a_mismatch_is_refused_before_anything_is_trained(root: Path) -> None:
    write(root / "bad", template(TURN.replace("</s>", "<end>")))
    with pytest.raises(ModelError, match="bad: the chat template ends an assistant's turn with '<end>'"):
        drive(root, student("one", "bad"))
    assert trained == [] and load_artifact(Folder(str(root / "run" / "tokens"))) is None


def test_example_that_the_template_refuses_is_named(root: Path) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    write(root / "strict", template(begin=refuses))
    dataset(root, [example(3, messages=[{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])])
    with pytest.raises(InputError, match=r"example 021: the chat template refuses the chat: .*no system"):
        drive(root, student("one", "strict"))
