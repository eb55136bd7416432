"""Evaluation lists of the contract: known by their content, and no release without having been looked at."""

import json

import pytest
from made_run import made_run

from engine.contract.contract import Contract
from engine.errors import GateRefused
from engine.storage.folder import Folder
from jobs.commands.release import promote
from jobs.steps import evaluation_lists


def with_lists(contract, *paths):
    raw = contract.model_dump(mode="json")
    raw["curation"]["decontaminate"]["lists"] = [{"path": path} for path in paths]
    return Contract.model_validate(raw)


def test_a_list_is_known_by_the_content_of_its_files(tmp_path):
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    order = with_lists(work.contract, "exams/*.jsonl", "gone.jsonl")
    (tmp_path / "seeds" / "exams").mkdir()
    for name in ("a", "b"):
        (tmp_path / "seeds" / "exams" / f"{name}.jsonl").write_text('{"input": "x"}\n')
    before = evaluation_lists.hashes(order, work.root)
    (tmp_path / "seeds" / "exams" / "b.jsonl").write_text('{"input": "y"}\n')
    now = evaluation_lists.hashes(order, work.root)
    assert [name for name in before if before[name] != now[name]] == ["exams/b.jsonl"]
    assert len(now) == 3 and now["gone.jsonl"] == "missing"
    assert evaluation_lists.hashes(work.contract, work.root) == {}


@pytest.mark.parametrize(
    ("looked_at", "reason"),
    [
        ({}, "the training set was not compared with the evaluation list exam.jsonl"),
        ({"exam.jsonl": "other"}, "the evaluation list exam.jsonl has changed since"),
    ],
)
def test_promote_is_refused_until_the_lists_of_today_were_looked_at(tmp_path, looked_at, reason):
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    (tmp_path / "seeds" / "exam.jsonl").write_text('{"input": "x"}\n')
    order = with_lists(work.contract, "exam.jsonl")
    Folder(f"{tmp_path}/run/reports").write("contract.json", order.model_dump_json().encode())
    path = tmp_path / "run" / "dataset" / "record.json"
    record = json.loads(path.read_text())
    for files, is_fresh in ((looked_at, False), (evaluation_lists.hashes(order, work.root), True)):
        record["metrics"]["decontamination"]["files"] = files
        path.write_text(json.dumps(record))
        if is_fresh:
            assert promote(f"{tmp_path}/run", f"{tmp_path}/registry").student == "small"
        else:
            with pytest.raises(GateRefused, match=reason):
                promote(f"{tmp_path}/run", f"{tmp_path}/registry")
