"""Another judge for a finished run: what may change, what moves, and a switch that may die anywhere. No Ray, no model."""

import shutil

import pytest
from made_run import made_run
from typer.testing import CliRunner

from engine.contract.profile import Pool
from engine.errors import ContractError, RecipeMismatch
from engine.rows import CANDIDATE
from engine.runs.job import is_finished
from engine.runs.recipe import identify
from engine.runs.swap import archive
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.cli import app
from jobs.commands import rejudge
from jobs.pipeline import pipeline

STRICTER = "judges.accept.confidence=0.9"


def moved(context):
    """Stands for the judge: one answer of `train` is doubted now, one is so for another reason."""
    rows = context.artifact("candidates").read("candidates", CANDIDATE).to_pylist()
    changed = {"eeee5555": ("review", ["low_confidence"]), "ffff6666": ("train", ["accepted"])}
    for row in rows:
        row["pool"], row["reasons"] = changed.get(row["answer_id"], (row["pool"], row["reasons"]))
    context.writer.put("candidates", CANDIDATE.empty_table().from_pylist(rows, schema=CANDIDATE), CANDIDATE)
    context.writer.metrics = {"teachers": {}}
    return RowCounts(3, {"train": 1, "contrast": 1, "review": 1})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run, and a judge that needs no Ray."""

    def graded(work, context, console):
        context.writer.clear()
        return context.writer.finish(identify(context), moved(context))

    monkeypatch.setattr(rejudge, "_graded", graded)
    return made_run(str(tmp_path / "run"), tmp_path)


def fingerprints(run):
    return {job.name: result.fingerprint for job in pipeline(run.contract) if (result := load_artifact(run.folder / job.name))}


def test_moves_are_counted_by_pool_and_reason_and_nothing_changes(run):
    before = fingerprints(run)
    result = rejudge.rejudge(run.folder.url, changes=[STRICTER]).model_dump(mode="json")
    assert result["changes"] == ["judges.accept.confidence: 0.5 -> 0.9"]
    assert result["pools"]["before"]["train"] == 2 and result["pools"]["after"] == result["pools"]["before"] | {
        "train": 1,
        "review": 1,
    }
    assert result["moves"] == [
        {
            "from": "train",
            "to": "review",
            "answers": 1,
            "reasons": [{"before": [], "after": ["low_confidence"], "answers": 1, "examples": ["eeee5555"]}],
        },
        {
            "from": "train",
            "to": "train",
            "answers": 1,
            "reasons": [{"before": [], "after": ["accepted"], "answers": 1, "examples": ["ffff6666"]}],
        },
    ]
    assert (result["written"], result["earlier"], result["stale_jobs"], result["paid"]) == (False, None, [], 0)
    assert fingerprints(run) == before and workspace.reopen(run.folder.url).contract == run.contract


def test_words_show_the_way_of_each_answer(run):
    words = CliRunner().invoke(app, ["rejudge", run.folder.url, "--set", STRICTER], catch_exceptions=False).stdout
    assert "1 of 3 answers move; 0 judge tokens and no teacher token were paid." in words
    assert next(line.split() for line in words.splitlines() if line.startswith("train")) == ["train", "1", "0", "1", "2"]
    assert "low_confidence" in words and "eeee5555" in words


def test_written_verdicts_are_the_runs_and_what_was_made_from_the_old_ones_is_kept_beside(run):
    before = fingerprints(run)
    result = rejudge.rejudge(run.folder.url, changes=[STRICTER], write=True)
    assert result.stale_jobs == ("dataset", "students/small", "students/large", "reports")
    assert set(fingerprints(run)) == {"prompts", "candidates"}
    after = workspace.reopen(run.folder.url)
    assert after.contract.judges.accept.confidence == 0.9
    assert all(is_finished(after.context(job, log=print, progress=print)) for job in pipeline(after.contract)[:2])
    earlier = workspace.reopen(result.earlier)
    assert earlier.contract == run.contract
    assert {name: fingerprint for name, fingerprint in before.items() if name != "prompts"} == fingerprints(earlier)
    assert not (run.folder / "rejudged").exists()


def test_the_way_back_gives_the_old_verdicts(run, monkeypatch):
    old = load_artifact(run.folder / "candidates").read("candidates", CANDIDATE)
    earlier = rejudge.rejudge(run.folder.url, changes=[STRICTER], write=True).earlier
    assert load_artifact(Folder(earlier) / "candidates").read("candidates", CANDIDATE) == old


def test_a_death_at_any_step_leaves_the_old_or_the_new_and_the_same_call_ends_it(run, tmp_path, monkeypatch):
    class Death(BaseException):
        pass

    trial = rejudge.rejudge(run.folder.url, changes=[STRICTER])
    old, new = (load_artifact(run.folder / name).fingerprint for name in ("candidates", "rejudged"))
    moves = rejudge.compare(*(load_artifact(run.folder / name) for name in ("candidates", "rejudged")))
    monkeypatch.setattr(rejudge, "compare", lambda before, after: moves)  # the same in every attempt
    shutil.copytree(run.folder.path, tmp_path / "kept")
    seen, steps = set(), 0
    while True:
        left = [steps]

        def dying(method, left=left):
            def act(self, *args, **options):
                if left[0] == 0:
                    raise Death
                left[0] -= 1
                return method(self, *args, **options)

            return act

        shutil.rmtree(run.folder.path)
        shutil.copytree(tmp_path / "kept", run.folder.path)
        with monkeypatch.context() as patch:
            for name in ("write", "remove", "rename_to"):
                patch.setattr(Folder, name, dying(getattr(Folder, name)))
            try:
                rejudge.rejudge(run.folder.url, changes=[STRICTER], write=True)
                break
            except Death:
                pass
        result = load_artifact(run.folder / "candidates")
        seen.add(result.fingerprint)
        assert result.read("candidates", CANDIDATE).num_rows == 3
        again = rejudge.rejudge(run.folder.url, changes=[STRICTER], write=True)
        assert again.written and set(fingerprints(run)) == {"prompts", "candidates"}
        assert set(fingerprints(workspace.reopen(archive(run.folder, old).url))) >= {"candidates", "dataset", "reports"}
        steps += 1
    assert seen == {old, new} and steps > 8 and trial.answers == 3


def test_same_judge_grades_nothing(run, monkeypatch):
    monkeypatch.setattr(rejudge, "_graded", lambda *args: pytest.fail("it was graded"))
    result = rejudge.rejudge(run.folder.url, write=True)
    assert result.changes == result.moves == result.stale_jobs == ()
    assert rejudge.as_text(result).startswith("The judge is the same.")
    assert "reports" in fingerprints(run)


def test_what_was_graded_without_write_is_not_graded_again(run, monkeypatch):
    rejudge.rejudge(run.folder.url, changes=[STRICTER])
    monkeypatch.setattr(rejudge, "_graded", lambda *args: pytest.fail("it was graded"))
    assert rejudge.rejudge(run.folder.url, changes=[STRICTER], write=True).written


def test_a_contract_with_another_teacher_is_refused_by_name(run, tmp_path):
    other = (tmp_path / "toy.yaml").read_text().replace("{name: t, model", "{name: t, system: Count., model")
    (tmp_path / "other.yaml").write_text(other)
    with pytest.raises(RecipeMismatch, match=r'teachers\.models\.0\.system: "" -> "Count\."'):
        rejudge.rejudge(run.folder.url, contract=str(tmp_path / "other.yaml"))


def test_a_contract_file_gives_its_judge_and_nothing_else(run, tmp_path):
    other = (tmp_path / "toy.yaml").read_text().replace("judges: {}", "judges: {accept: {confidence: 0.9}}").replace("0.5}", "0.7}")
    (tmp_path / "other.yaml").write_text(other)
    rejudge.rejudge(run.folder.url, contract=str(tmp_path / "other.yaml"), write=True)
    after = workspace.reopen(run.folder.url).contract
    assert after.judges.accept.confidence == 0.9 and after.gate == run.contract.gate


RUBRIC = 'judges: {rubrics: [{name: r, model: {type: vllm, path: "PATH"}, system: Rate., question: "{text} {answer}"}]}'


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        ("new", "models/j", "new/models/j"),
        ("new", "../model", "model"),
        (".", "models/j", "models/j"),
        (".", "./models/j", "./models/j"),  # as it is written: it is part of the recipe
        ("new", "smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("new", "/weights/j", "/weights/j"),
    ],
)
def test_model_of_another_contract_is_found_from_the_folder_of_that_contract(run, tmp_path, folder, path, expected):
    (tmp_path / folder).mkdir(exist_ok=True)
    other = (tmp_path / "toy.yaml").read_text().replace("judges: {}", RUBRIC.replace("PATH", path))
    (tmp_path / folder / "other.yaml").write_text(other)
    rejudge.rejudge(run.folder.url, contract=str(tmp_path / folder / "other.yaml"), write=True)
    after = workspace.reopen(run.folder.url)
    assert after.contract.judges.rubrics[0].model.path == expected and after.root == run.root


def test_files_of_tools_of_another_contract_are_the_same_files(tmp_path):
    sql = {"type": "sql", "tables": {"shop": "../shop.csv", "far": "s3://bucket/far.csv"}}
    moved = rejudge._rebased([sql, {"type": "retrieval", "corpus": "notes.jsonl"}], str(tmp_path / "new"), str(tmp_path))
    assert moved[0]["tables"] == {"shop": "shop.csv", "far": "s3://bucket/far.csv"}
    assert moved[1]["corpus"] == "new/notes.jsonl"
    evidence = {"tokenizers": {"t": "words", "u": "s3://bucket/words"}, "readers": [{"packages": "llama", "type": "llama_cpp"}]}
    moved = rejudge._rebased({"evidence": evidence}, str(tmp_path / "new"), str(tmp_path))["evidence"]
    assert moved["tokenizers"] == {"t": "new/words", "u": "s3://bucket/words"} and moved["readers"][0]["packages"] == "new/llama"
    assert rejudge._rebased({"packages": None, "type": "llama_cpp"}, "/new", "/old")["packages"] is None


def test_only_the_judge_may_be_set(run):
    with pytest.raises(ContractError, match="the judge alone"):
        rejudge.rejudge(run.folder.url, changes=["students.0.epochs=9"])


def test_drift_of_the_judge_alone_names_the_way_out_and_other_drift_does_not(run):
    def refusal(change):
        judged = workspace.create(str(run.contract_path), run.folder.url, profile="laptop", changes=change)
        with pytest.raises(RecipeMismatch) as failure:
            is_finished(judged.context(pipeline(judged.contract)[1], log=print, progress=print))
        return str(failure.value)

    assert f"`rayleigh rejudge {run.folder} --contract FILE`" in refusal([STRICTER])
    assert "rejudge" not in refusal([STRICTER, "teachers.models.0.sampling.n=2"])


def test_draft_that_is_half_made_is_nobodys_result(run):
    ArtifactWriter(run.folder / "rejudged").folder.write("candidates/half", b"half")
    assert rejudge.rejudge(run.folder.url, changes=[STRICTER]).answers == 3


@pytest.mark.parametrize(
    ("judge", "teacher", "actors"),
    [
        ({"actors": 1, "cpus": 1}, {"actors": 1, "cpus": 1}, 2),
        ({"actors": 2, "gpus": 0.5}, {"actors": 2, "gpus": 4, "pipeline": 2}, 34),  # sixteen GPUs are free
        ({"actors": 1, "gpus": 2}, {"actors": 3, "cpus": 8}, 1),  # teachers behind a server leave no GPU
        ({"actors": 1, "cpus": 0}, {"actors": 3}, 1),
    ],
)
def test_judges_take_the_places_of_the_teachers(judge, teacher, actors):
    assert rejudge.joined(Pool.model_validate(judge), Pool.model_validate(teacher)).actors == actors
