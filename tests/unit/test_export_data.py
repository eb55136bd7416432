"""rayleigh export: every form, filters, licences, withdrawn rows, personal data, and a folder that is whole or not there."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from threshold_runs import PROMPTS, threshold_run
from typer.testing import CliRunner

from engine.contract.prompts import Withdrawn
from engine.publish.forms import alpaca, sharegpt
from engine.records.publish import DataExport
from engine.release.withdrawals import Withdrawals
from engine.storage.folder import Folder
from jobs.cli import app
from jobs.commands.sql import Views

MAIL = "ann@example.org"
LICENCES = {prompt["prompt_id"]: prompt["licence"] for prompt in PROMPTS}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    return str(threshold_run(str(root / "runs" / "one"), root / "seeds", 0.3).folder)


def ask(*words, code=0):
    result = CliRunner().invoke(app, ["export", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def lines(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def examples(run):
    return Views(run).rows("select e.*, p.licence from examples e join prompts p using (prompt_id) order by example_id")


def test_messages_end_with_the_target_split_by_split(run, tmp_path):
    ask(run, "messages", tmp_path / "out")
    for split in ("train", "validation"):
        expected = [row for row in examples(run) if row["split"] == split]
        found = lines(tmp_path / "out" / f"{split}.jsonl")
        assert found == [
            {"messages": [*row["messages"], {"role": "assistant", "content": row["target"]}]} for row in expected
        ] and found  # fmt: skip
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert info["toy_train"]["file_name"] == "train.jsonl" and info["toy_train"]["columns"] == {"messages": "messages"}


def test_manifest_counts_what_left_and_what_did_not(run, tmp_path):
    result = DataExport.model_validate_json(
        ask(run, "messages", tmp_path / "out", "--licence", "MIT", "--where", "layer = 'core'", "--json")
    )
    kept = [row for row in examples(run) if row["layer"] == "core"]
    assert sum(result.rows.values()) == result.by_licence["MIT"] == sum(row["licence"] == "MIT" for row in kept)
    assert result.rows_in == len(examples(run)) == sum(result.rows.values()) + sum(result.left_out.values())
    assert result.left_out["where"] == len(examples(run)) - len(kept)
    assert result == DataExport.model_validate_json((tmp_path / "out" / "export.json").read_text())
    assert {file.path for file in result.files} == {"train.jsonl", "validation.jsonl", "dataset_info.json"}


def test_personal_data_is_found_and_replaced_when_named(run, tmp_path):
    found = json.loads(ask(run, "messages", tmp_path / "as-is", "--json"))
    assert found["suspected"]["email"] == 1 and found["redacted"] == {}
    assert MAIL in (tmp_path / "as-is" / "train.jsonl").read_text()
    assert "personal data may be left: 1 email" in ask(run, "csv", tmp_path / "told")
    replaced = json.loads(ask(run, "messages", tmp_path / "clean", "--redact", "email", "--json"))
    assert replaced["redacted"] == {"email": 1} and "email" not in replaced["suspected"]
    text = "".join(path.read_text() for path in (tmp_path / "clean").iterdir())
    assert MAIL not in text and "<EMAIL>" in text


def test_withdrawn_rows_stay_behind(run, tmp_path):
    registry = tmp_path / "registry"
    Withdrawals(Folder(str(registry))).add(Withdrawn(licence="MIT"), "asked")
    first = examples(run)[0]
    Withdrawals(Folder(str(registry))).add(Withdrawn(prompt=first["prompt_id"]), "asked")
    found = json.loads(ask(run, "csv", tmp_path / "out", "--registry", registry, "--json"))
    gone = [row for row in examples(run) if row["licence"] == "MIT" or row["prompt_id"] == first["prompt_id"]]
    assert found["left_out"] == {"withdrawn": len(gone)} and set(found["by_licence"]) == {"CC0-1.0"}


def test_csv_is_read_back(run, tmp_path):
    ask(run, "csv", tmp_path / "out")
    with (tmp_path / "out" / "train.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    expected = [row for row in examples(run) if row["split"] == "train"]
    assert [(row["example_id"], json.loads(row["messages"]), row["target"], row["licence"], row["teacher"]) for row in found] == [
        (row["example_id"], row["messages"], row["target"], row["licence"], "t") for row in expected
    ]


def test_hub_folder_has_splits_card_and_lineage(run, tmp_path):
    ask(run, "hf", tmp_path / "out")
    _, header, body = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found = yaml.safe_load(header)
    [config] = found["configs"]
    assert config["config_name"] == "examples" and found["license"] == ["cc0-1.0", "mit"]
    rows = {file["split"]: pq.read_table(tmp_path / "out" / file["path"]).num_rows for file in config["data_files"]}
    assert rows == {split: sum(row["split"] == split for row in examples(run)) for split in ("train", "validation")}
    assert "## Intended use" in body and "## Limits" in body and "| MIT | " in body and "| seeds.jsonl | " in body
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert list(lineage) == ["prompts", "candidates", "dataset"]


def test_croissant_names_every_file_with_its_hash_and_every_column(run, tmp_path):
    ask(run, "croissant", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "croissant.json").read_text())
    files = {file["contentUrl"]: file["sha256"] for file in found["distribution"]}
    assert files == {
        name: Folder(str(tmp_path / "out")).measure(name).sha256 for name in ("data/train.parquet", "data/validation.parquet")
    }
    for record_set in found["recordSet"]:
        schema = pq.read_schema(tmp_path / "out" / "data" / f"{record_set['name']}.parquet")
        assert [field["name"] for field in record_set["field"]] == schema.names
        assert all(field["description"] for field in record_set["field"] if field["name"] in ("messages", "target", "split"))


def test_run_without_pairs_cannot_export_them(run, tmp_path):
    assert "has no table preferences" in ask(run, "preferences", tmp_path / "out", code=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--licence", "GPL"], "The licences of"),
        (["--where", "colour = 'red'"], "colour"),
        (["--where", "true); drop view examples; select (1"], "expected one SELECT"),
        (["--where", "false"], "none of"),
        (["--redact", "names"], "expected one of email"),
        (["--push", "me/data"], "expected hf"),
    ],
)
def test_what_cannot_leave_is_refused_and_leaves_no_folder(run, tmp_path, words, said):
    assert said in ask(run, "csv", tmp_path / "out", *words, code=1)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_empty_is_not_touched(run, tmp_path):
    (tmp_path / "out").mkdir()
    ask(run, "csv", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "exists and is not empty" in ask(run, "csv", tmp_path / "out", code=1)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "expected a folder on a disk" in ask(run, "csv", "s3://bucket/out", code=1)


def test_current_folder_is_not_replaced_under_the_shell(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is the current folder" in ask(run, "csv", ".", code=1) and "is the current folder" in ask(run, "csv", "new/..", code=1)


def test_fault_half_way_leaves_nothing(run, tmp_path, monkeypatch):
    from jobs.commands import export_files

    def full(file, row):
        raise OSError("no space left on device")

    monkeypatch.setattr(export_files.Csv, "_write", lambda self, file, row: full(file, row))
    assert "no space left" in ask(run, "csv", tmp_path / "out", code=1)
    assert list(tmp_path.iterdir()) == []


def test_push_uploads_the_whole_folder_to_a_private_repository(run, tmp_path, monkeypatch):
    calls = []

    class Hub:
        def create_repo(self, name, **options):
            calls.append((name, options))
            return f"https://hub.example/datasets/{name}"

        def upload_folder(self, *, folder_path, **options):
            calls.append((sorted(path.name for path in Path(folder_path).iterdir()), options["repo_id"]))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert "pushed     https://hub.example/datasets/me/data" in ask(run, "hf", tmp_path / "out", "--push", "me/data")
    assert calls[0] == ("me/data", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert calls[1] == (["README.md", "data", "export.json", "lineage.json"], "me/data")


def row(*turns, target="done"):
    return {"messages": [{"role": role, "content": text} for role, text in turns], "target": target}


def test_conversations_in_the_names_of_sharegpt():
    asked = row(("system", "s"), ("user", "a"), ("assistant", "b"), ("tool", "c"))
    assert sharegpt(asked) == {
        "conversations": [
            {"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
            {"from": "observation", "value": "c"}, {"from": "gpt", "value": "done"},
        ]
    }  # fmt: skip
    assert sharegpt(row(("user", "a"), ("user", "b"))) is None


def test_alpaca_has_a_history_and_no_tools():
    asked = row(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    assert alpaca(asked) == {"instruction": "c", "input": "", "output": "done", "system": "s", "history": [["a", "b"]]}
    assert alpaca(row(("user", "a"), ("assistant", "b"), ("tool", "c"))) is None
