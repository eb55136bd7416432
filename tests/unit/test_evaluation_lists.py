"""Evaluation lists of the contract: known by their content, and no release without having been looked at."""

import json

import pytest
from made_run import made_run

from engine.contract.contract import Contract
from engine.contract.profile import Pool, Profile
from engine.distributed import in_process
from engine.errors import GateRefused, InputError
from engine.runs.job import Job, JobContext
from engine.storage.artifact import ArtifactWriter
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


def read(tmp_path, rows):
    """Return the (text, reference) of the rows of a list that are compared, and the warnings."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    work = made_run(str(tmp_path / "run"), tmp_path / "seeds")
    raw = with_lists(work.contract, "exam.jsonl").model_dump(mode="json")
    raw["curation"]["decontaminate"]["lists"][0]["columns"] = {"text": "input", "reference": "reference"}
    writer, job = ArtifactWriter(Folder(str(tmp_path / "made"))), Job("dataset", needs=(), reads=(), run="none:none")
    context = JobContext(job, Contract.model_validate(raw), Profile(name="toy"), str(folder), "", writer.folder, writer)
    with in_process.flows(True, Pool()):
        found = evaluation_lists.rows(context)
        assert found is not None
        kept = [*found.iter_rows()]
    return [(row["text"], row["reference"]) for row in kept if not row["reason"]], writer.warnings


def test_a_row_of_a_list_without_a_reference_is_protected_and_what_is_no_prompt_is_a_warning(tmp_path):
    rows = [
        {"input": "one", "reference": "1"},
        {"input": "two", "reference": None},
        {"input": "three"},
        {"input": ""},
        {"input": None},
    ]
    found, [warning] = read(tmp_path, rows)
    assert sorted(found, key=str) == [("one", "1"), ("three", None), ("two", None)]
    assert warning.endswith("nothing is compared with them: 2 empty of exam.jsonl")


def test_a_list_without_a_valid_row_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"lists: exam\.jsonl: found no row that is a prompt.*Left out: 2 empty of exam\.jsonl"):
        read(tmp_path, [{"input": "", "reference": "x"}] * 2)


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
