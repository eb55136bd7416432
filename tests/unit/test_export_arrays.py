"""rayleigh export RUN arrays: token ids and log-probabilities as NumPy and Safetensors read them; formats that need an extra."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from threshold_runs import threshold_run
from tokens_run import OTHER, OWN, tokens_run
from typer.testing import CliRunner

from engine.inference.chat_template import load_tokenizer
from engine.publish import arrays, formats
from engine.publish.tables import EXPORTED_EXAMPLE, annotated
from jobs.cli import app
from jobs.commands import export_arrays
from jobs.commands.sql import Views


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("arrays")
    return str(tokens_run(str(root / "runs" / "one"), root / "seeds").folder)


@pytest.fixture(scope="module")
def out(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "out"
    ask(run, "arrays", folder, "--licence", "CC0-1.0", "--redact", "email")
    return folder


def ask(*words, code=0):
    result = CliRunner().invoke(app, ["export", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def opened(out):
    """What the code of the README opens: with Safetensors, and with NumPy alone."""
    results = []
    for block in (out / "README.md").read_text().split("```python\n")[1:]:
        names = {}
        exec(block.split("```")[0], names)
        results.append(names)
    return results


def key_folder(out):
    [folder] = [path for path in out.iterdir() if path.is_dir()]
    return folder


def test_both_readers_of_the_readme_open_the_same_arrays(out):
    first, second = opened(out)
    assert first["arrays"].keys() == second["arrays"].keys() and "teacher_logprob" in first["arrays"]
    for name, array in first["arrays"].items():
        assert array.dtype == second["arrays"][name].dtype and np.array_equal(array, second["arrays"][name]), name


def test_ids_are_those_of_the_examples_that_may_leave_split_by_split(run, out):
    query = (
        "select e.*, p.licence, t.ids from examples e join prompts p using (prompt_id) "
        f"join \"examples_{key_folder(out).name}\" t using (example_id) where p.licence = 'CC0-1.0' order by example_id"
    )
    rows = Views(run).rows(query)
    tokenizer = load_tokenizer(key_folder(out) / "tokenizer")
    for split in ("train", "validation"):
        expected = [row for row in rows if row["split"] == split and "example.org" not in row["target"]]
        found = safetensors(out, split)
        index = pq.read_table(key_folder(out) / f"{split}-00000.parquet")
        assert index["example_id"].to_pylist() == [row["example_id"] for row in expected] and expected
        assert set(index["licence"].to_pylist()) == {"CC0-1.0"} and "target" not in index.column_names
        cut = np.split(found["ids"], found["starts"][1:-1])
        assert [each.tolist() for each in cut] == [row["ids"] for row in expected]
        targets = [ids[start:] for ids, start in zip(cut, found["target_start"], strict=True)]
        texts = [tokenizer.decode(target, skip_special_tokens=True) for target in targets]
        assert texts == [row["target"] for row in expected]
        assert found["weight"].tolist() == [row["weight"] for row in expected]
        assert found["span_end"][found["span_starts"][1:] - 1].tolist() == [len(row["ids"]) for row in expected]


def safetensors(out, split):
    from safetensors.numpy import load_file

    return load_file(key_folder(out) / f"{split}-00000.safetensors")


def test_distributions_are_at_the_target_tokens(out):
    found = safetensors(out, "train")
    targets = np.diff(found["starts"]) - found["target_start"]
    assert len(found["teacher_tail"]) == len(found["teacher_starts"]) - 1 == targets.sum()
    assert found["teacher_gate"].all()
    learned = np.concatenate(
        [ids[start:] for ids, start in zip(np.split(found["ids"], found["starts"][1:-1]), found["target_start"], strict=True)]
    )
    first = found["teacher_starts"][:-1]
    assert found["teacher_ids"][first].tolist() == learned.tolist()  # the target is the teacher's first choice
    assert np.exp(found["teacher_logprob"][first]) == pytest.approx(OWN, rel=0.02)
    assert np.exp(found["teacher_tail"]) == pytest.approx(1 - OWN - OTHER, rel=0.05)


def test_personal_data_leaves_in_no_ids(run, out, tmp_path):
    result = json.loads((out / "export.json").read_text())
    assert (
        result["left_out"]["personal"] == 1 and sum(result["rows"].values()) + sum(result["left_out"].values()) == result["rows_in"]
    )
    kept = json.loads(ask(run, "arrays", tmp_path / "out", "--json"))
    assert kept["suspected"] == {"email": 1} and "personal" not in kept["left_out"]


def test_files_have_at_most_so_many_values_and_lose_no_row(run, tmp_path, monkeypatch):
    monkeypatch.setattr(export_arrays, "LARGEST", 400)
    result = json.loads(ask(run, "arrays", tmp_path / "out", "--json"))
    files = sorted(key_folder(tmp_path / "out").glob("train-*.safetensors"))
    assert (
        len(files) > 2 and sum(pq.read_metadata(path.with_suffix(".parquet")).num_rows for path in files) == result["rows"]["train"]
    )
    assert all(f"{path.parent.name}/{path.name} | " in (tmp_path / "out" / "README.md").read_text() for path in files)


def test_each_array_says_what_it_is(out):
    from safetensors import safe_open

    with safe_open(str(key_folder(out) / "train-00000.safetensors"), "np") as file:
        assert file.metadata() == {name: arrays.DOCS[name] for name in file.keys()}  # noqa: SIM118
    text = (out / "README.md").read_text()
    assert "answer_logprob" not in text and all(f"`{name}`" in text for name in (*arrays.TOKEN_DOCS, *arrays.TEACHER_DOCS))


def test_answers_own_log_probabilities_are_kept_row_by_row():
    shard = arrays.Shard()
    span = {"kind": "final", "start": 1, "end": 3}
    row = {"ids": [1, 2, 3], "target_start": 1, "weight": 1.0, "spans": [span]}
    shard.add(row, None, None)
    shard.add(row, [{"end": 4, "logprob": -0.5}, {"end": -1, "logprob": None}], None)
    found = shard.arrays()
    assert found["answer_starts"].tolist() == [0, 0, 2] and found["answer_end"].tolist() == [4, -1]
    assert found["answer_logprob"][0] == -0.5 and np.isnan(found["answer_logprob"][1])
    with pytest.raises(ValueError, match="distributions of 1 tokens, expected those of 2"):
        shard.add(row, None, arrays.Distributions(np.zeros(2, np.int64), *(np.zeros(each) for each in (0, 0, 1, 1))))


def test_run_without_tokens_is_told_how_to_make_them(tmp_path):
    run = threshold_run(str(tmp_path / "run"), tmp_path / "seeds", 0.3).folder
    assert "has no artifact tokens. `rayleigh run CONTRACT" in ask(run, "arrays", tmp_path / "out", code=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["delta", "iceberg", "lance"])
def test_missing_package_names_the_extra_and_leaves_no_folder(run, tmp_path, monkeypatch, form):
    monkeypatch.setitem(formats.FORMATS, form, formats.FORMATS[form]._replace(package="no_such_package"))
    assert "pip install 'rayleigh[tables]'" in ask(run, form, tmp_path / "out", code=1)
    assert list(tmp_path.iterdir()) == []


def test_columns_of_exports_say_what_those_of_artifacts_say(run, tmp_path):
    schema = annotated("examples", "comment")
    assert schema.field("pool").metadata[b"comment"].startswith(b"of the answer; one of `train`")
    assert schema.field("messages").type.value_type.field("role").metadata[b"comment"] == b"system, user or assistant"
    assert schema.equals(EXPORTED_EXAMPLE) and all(description_of(field) for field in schema)
    ask(run, "hf", tmp_path / "out")
    written = pq.read_schema(tmp_path / "out" / "data" / "examples" / "train.parquet")
    assert written.field("weight").metadata[b"description"] == b"factor of its loss; at least 0"


def description_of(field):
    return field.metadata[b"description"]
