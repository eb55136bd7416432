"""Models and settings of a contract that the engine would refuse, or that nothing reads: `rayleigh check` says so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_run import workspace
from test_students_bad_input import check, write

from engine.contract.capture import Capture
from engine.contract.models import LlamaCppModel
from engine.contract.on_policy import OnPolicy
from engine.contract.profile import Profile
from engine.inference.engine import build_model
from engine.inference.llama_cpp_engine import LlamaCppEngine
from engine.teachers.teacher import TeacherSpec
from jobs.pipeline import pipeline
from jobs.steps import candidates, capture, on_policy, reports
from jobs.steps.judging import model_client

PACKAGES = Path(__file__).parent / "fake_packages"
LLAMA = f"teachers.models.0.model={{type: llama_cpp, path: gguf, packages: {PACKAGES}}}"
RUBRIC = "{name: j, model: {type: fake}, system: Judge., question: '{text} {answer}'}"
VLLM = "teachers.models.0.model={type: vllm, path: model, max_model_len: %d}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    workspace(str(root / "run"), root)
    write(root / "model")
    write(root / "gguf")
    return root


def test_file_and_packages_of_llama_cpp_are_looked_for(root: Path) -> None:
    bare = LLAMA.replace(f", packages: {PACKAGES}", "")
    assert (
        "teachers.models.0.model.packages: llama.cpp needs llama-cpp-python and diskcache, which are not in this environment"
        in check(root, (bare,), 1)
    )
    assert "gguf: found [], expected one file *.gguf beside config.json" in check(root, (LLAMA,), 1)
    (root / "gguf" / "model.gguf").write_text(json.dumps({"vocabulary": 64}))
    assert "t: gguf, 1 answers a prompt" in check(root, (LLAMA,), 0)
    gone = LLAMA.replace("path: gguf", "path: gone")
    assert "teachers.models.0.model.path: model 'gone': there is no folder" in check(root, (gone,), 1)


def test_teacher_of_llama_cpp_gets_its_files(tmp_path: Path) -> None:
    work = workspace(str(tmp_path / "run"), tmp_path)
    folder = write(tmp_path / "gguf")
    (folder / "model.gguf").write_text(json.dumps({"vocabulary": 64}))
    job = next(job for job in pipeline(work.contract) if job.name == "candidates")
    context = work.context(job, log=lambda text: None, progress=lambda text: None)
    model = LlamaCppModel(type="llama_cpp", path="gguf", packages=str(PACKAGES), max_model_len=64)
    client = model_client(context, model, "answers", payee="t")
    assert client.weights == folder
    engine = build_model(client.model, client.pool, folder=folder)
    assert isinstance(engine, LlamaCppEngine) and engine.folder == folder
    engine.child.close()


def test_packages_of_llama_cpp_lie_below_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = workspace(str(tmp_path / "run"), tmp_path)
    (write(tmp_path / "gguf") / "model.gguf").write_text(json.dumps({"vocabulary": 64}))
    (tmp_path / "packages").symlink_to(PACKAGES)
    assert "t: gguf, 1 answers a prompt" in check(tmp_path, (LLAMA.replace(str(PACKAGES), "packages"),), 0)
    model = LlamaCppModel(type="llama_cpp", path="gguf", packages="packages", max_model_len=64)
    teacher = work.contract.teachers.models[0].model_copy(update={"model": model})
    teachers = work.contract.teachers.model_copy(update={"models": (teacher,)})
    work = replace(work, contract=work.contract.model_copy(update={"teachers": teachers}))
    job = next(job for job in pipeline(work.contract) if job.name == "candidates")
    context = work.context(job, log=lambda text: None, progress=lambda text: None)
    [spec] = candidates._teacher_specs(context)
    [target] = reports.teachers(context)
    assert isinstance(spec, TeacherSpec)
    for asked in (spec.client.model, target.model):
        assert isinstance(asked, LlamaCppModel) and asked.packages == str(tmp_path / "packages")


def test_length_above_the_positions_of_the_model_is_refused(root: Path) -> None:
    assert "teachers.models.0.model.max_model_len: found 65, expected at most 64" in check(root, (VLLM % 65,), 1)
    assert "t: model" in check(root, (VLLM % 64,), 0)


def test_split_without_training_examples_is_refused(root: Path) -> None:
    assert "curation.pick.validation: found 1, which is a share" in check(root, ("curation.pick.validation=1",), 1)


def test_teacher_that_is_called_like_the_student_itself_is_refused(root: Path) -> None:
    rounds = "students.0.on_policy={objective: on_policy_kl, teacher: self, instruction: Be brief.}"
    assert "rename the teacher" in check(root, ("teachers.models.0.name=self", rounds), 1)
    assert "then 4 on-policy rounds" in check(root, (rounds,), 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("students.0.keep_seeds=true",), "students.0.keep_seeds: found true, which has no effect: seeds is 1"),
        (("students.0.decode=free",), "students.0.decode: found free, which has no effect: metric is loss"),
        (("students.0.decay_ratio=0.5",), "students.0.decay_ratio: found 0.5, which has no effect: schedule is cosine"),
        (("students.0.max_steps=5", "students.0.epochs=7"), "students.0.epochs: found 7, which has no effect: max_steps, 5"),
        (("students.0.warmup_steps=1", "students.0.warmup_ratio=0.2"), "students.0.warmup_ratio: found 0.2, which has no effect"),
        ((VLLM % 64, "capture={most: 9}"), "capture: no student has an objective that reads it"),
        ((VLLM % 64, "capture={most: 9}"), "capture.most: found 9, which has no effect: mass is not given"),
        ((VLLM % 64, "capture={tokenizers: {t: model}}"), "capture.tokenizers: t has no effect"),
        ((VLLM % 64, "teachers.models.0.sampling={n: 2}"), "found n 2 and temperature 0: the answers to a prompt are equal"),
        (
            (VLLM % 64, "teachers.mode=judged", f"judges.rubrics=[{RUBRIC}]", "judges.ranking={question: Better}"),
            "judges.ranking: found teachers.mode judged, so only labelled items are compared",
        ),
        (
            ("students.0.objectives={sft: 0, process: {schedule: drop_after, epochs: 3}}",),
            "process.epochs: found 3, which is no less than epochs, 3: the rationale is never dropped",
        ),
        (
            ("students.0.on_policy={objective: on_policy_kl, teacher: source, beta: 0.3, clip: 0.3}",),
            "students.0.on_policy.clip: found 0.3, which has no effect: objective is on_policy_kl",
        ),
    ],
)
def test_setting_that_nothing_reads_is_named(root: Path, changes: tuple[str, ...], said: str) -> None:
    assert said in check(root, changes, 0)
    assert "no effect" not in check(root, (), 0)


def test_teachers_that_score_run_on_their_own_pools_and_are_counted_apart(tmp_path: Path) -> None:
    work = workspace(str(tmp_path / "run"), tmp_path)
    student = work.contract.students[0].model_copy(update={"on_policy": OnPolicy(objective="on_policy_kl", teacher="t")})
    contract = work.contract.model_copy(update={"capture": Capture(), "students": (student,)})
    profile = Profile.model_validate({"name": "p", "teachers": {"t": {"gpus": 8}, "capture": {"gpus": 3}}})
    work = replace(work, contract=contract, profile=profile)
    jobs = {job.name: job for job in pipeline(contract)}
    context = work.context(jobs["capture"], log=lambda text: None, progress=lambda text: None)
    [scores] = capture._specs(context, Capture())
    rounds = on_policy.RayStages(context, student, tmp_path).teacher
    assert rounds and [(each.client.pool.gpus, each.client.payee) for each in (scores, rounds)] == [
        (8, "capture"),
        (8, "on_policy"),
    ]
