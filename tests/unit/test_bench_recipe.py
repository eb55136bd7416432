"""Recipes of students over seeds: which contracts may be compared, what is trained once, and the numbers. No Ray."""

import json
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from made_run import YAML, made_run

from engine.contract.evaluation import Evaluation
from engine.contract.models import VllmModel
from engine.contract.specialist import TaskUnit
from engine.errors import ContractError, InputError
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.inference.engine import Completion
from engine.records.student import StudentMetrics
from engine.rows import HOLDOUT, PROMPT, from_rows
from engine.runs.job import Job
from engine.storage.artifact import RowCounts
from jobs.bench import recipe, recipe_jobs
from jobs.bench.recipe_answers import in_ways
from jobs.bench.recipe_jobs import by_group, generated
from jobs.bench.recipe_table import WAYS, Answers, Draws, Measured, RecipeBench, as_text, results
from jobs.bench.recipe_variants import students, trained, variants
from jobs.contracts.order_mail import generate
from jobs.terminal.console import interval

METRICS = {
    "name": "s", "parameters": 22_500_000, "source": "m", "source_parameters": 9, "source_layers": 2, "layers": [0], "zero": 2,
    "workers": 1, "validation_loss": {"final": 1.0, "best": 1.0, "best_step": 2}, "steps": 7, "tokens": 3, "seconds": 2.0,
    "stopped_early": False, "resumed_from": [], "ended_by": "epochs",
}  # fmt: skip
MAILS = [f"mail {number}" for number in range(12)]


@pytest.fixture
def contract(tmp_path):
    """The path of the contract of `made_run`."""
    path = tmp_path / "seeds" / "toy.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(YAML)
    return str(path)


def test_change_applies_to_its_label_or_to_all(contract):
    sets = ["students.small.epochs=7", "long:students.large.epochs=9", "students.1.learning_rate=0.5"]
    found = variants([contract, f"long={contract}"], sets)
    assert [each.label for each in found] == ["toy", "long"]
    assert [[student.epochs for student in each.contract.students] for each in found] == [[7, 3], [7, 9]]
    assert {each.contract.students[1].learning_rate for each in found} == {0.5}


@pytest.mark.parametrize(
    ("labels", "change", "said"),
    [
        (["", ""], "name=x", "found 'toy' twice, expected a label of its own for each"),
        (["", "b="], "c:name=x", "found the label 'c', expected one of toy, b"),
        (["", "b="], "b:students.tiny.epochs=1", "students.tiny.epochs does not lead to a value; lists are counted from 0"),
    ],
)
def test_label_that_is_none_is_refused(contract, labels, change, said):
    with pytest.raises(ContractError, match=said):
        variants([label + contract for label in labels], [change])


def test_equal_students_are_trained_once_and_each_seed_alone(contract):
    sets = ["b:students.large.epochs=9", "b:students.small.micro_batch_size=4"]
    one, other = variants([contract, f"b={contract}"], sets)
    assert trained(one, "small", 0).student.name == trained(other, "small", 0).student.name  # in other pieces, the same training
    names = {trained(each, "large", seed).student.name for each in (one, other) for seed in range(2)}
    assert len(names) == 4 and all(name.startswith("large-") for name in names)
    assert trained(one, "large", 3).student.seed == 3


def test_student_with_another_tokenizer_is_in_a_group_of_its_own(contract):
    trimmed = "b:students.large.init.vocabulary.trim={}"
    one, other = variants([contract, f"b={contract}"], [trimmed])
    groups = by_group([trained(each, name, 0) for each in (one, other) for name in ("small", "large")])
    assert sorted(len(group) for group in groups.values()) == [1, 3]


def test_student_that_a_contract_lacks_is_refused(contract):
    [one] = variants([contract], [])
    assert students([one], []) == ["small", "large"]
    with pytest.raises(InputError, match="--student: found 's', but the contract toy has small, large"):
        students([one], ["s"])


def test_a_student_answers_with_spans_with_the_schema_alone_and_free():
    output = {"json_schema": {"type": "object", "properties": {"word": {"type": "string"}}}, "spans": {"word": 1}}
    unit = TaskUnit.model_validate({"name": "u", "kind": "extraction", "output": output})
    row = {"task_unit": "u", "text": "two words", "messages": [{"role": "user", "content": "two words"}]}
    served = EvalTarget("s", "student", VllmModel(type="vllm", path="x"), {"u": unit})
    asked = {way: target.request(row).json_schema for way, target in in_ways(served).items()}
    assert list(asked) == list(WAYS) and asked["free"] is None
    assert asked["schema"] == output["json_schema"] and asked["served"]["properties"]["word"] == {"enum": ["two", "words"]}


def answers_of(rows):
    return [Answers(np.array(row, float), np.array([1.0, np.nan, 1.0, 0.0])) for row in rows]


def measured(label, *served, free=((0, 0, 0, 0), (1, 0, 0, 0))):
    metrics = [StudentMetrics.model_validate(METRICS)] * 2
    return Measured(label, "s", ["s-0", "s-1"], metrics, dict(zip(WAYS, map(answers_of, (served, served, free)), strict=True)))


def test_numbers_are_of_seeds_and_mails_and_differences_are_paired():
    scenarios = ["a", "a", "b", "b"]
    draws = Draws(2, scenarios, Evaluation(bootstrap=200))
    both = [measured("old", (1, 1, 0, 0), (1, 0, 0, 0)), measured("new", (1, 1, 1, 0), (1, 0, 1, 0))]
    old, new = results(both, np.array([1.0, 1.0, 1.0, 0.0]), draws)
    served = old.decoded["served"]
    assert served.by_seed == [0.5, 0.25] and served.mean.value == 0.375 and served.worst == 0.25
    assert served.sd == pytest.approx(0.176777, abs=1e-6) and served.valid == pytest.approx(2 / 3, abs=1e-6)
    assert served.of_teacher.value == 0.5 and served.worst_of_teacher == pytest.approx(1 / 3, abs=1e-6)
    assert served.difference is None and old.steps == [7, 7] and old.ended_by == ["epochs", "epochs"]
    served, free = new.decoded["served"], new.decoded["free"]
    assert served.difference.value == 0.25 and free.difference.value == free.difference.high == 0
    assert served.difference_clustered.value == 0.25 and served.difference_clustered.high == 0.5  # mails of phrasing b alone


def test_share_of_the_teacher_is_shown_with_the_interval_over_phrasings():
    right = np.repeat(np.random.default_rng(0).random(20) < 0.5, 30).astype(float)
    rows = [Answers(right, np.full(600, np.nan))] * 2
    metrics = [StudentMetrics.model_validate(METRICS)] * 2
    one = Measured("new", "s", ["s-0", "s-1"], metrics, dict.fromkeys(WAYS, rows))
    scenarios = [str(number // 30) for number in range(600)]
    [found] = results([one], np.ones(600), Draws(2, scenarios, Evaluation(bootstrap=300)))
    alone, together = found.decoded["served"].of_teacher, found.decoded["served"].of_teacher_clustered
    assert alone.value == together.value and together.high - together.low > 2 * (alone.high - alone.low)
    shown = as_text(
        RecipeBench(run="r", folder="f", seeds=2, mails=600, phrasings=20, seen=0, level=0.95, teacher=None, results=[found])
    )
    assert interval(together) in shown and interval(alone) not in shown and "intervals over seeds and phrasings" in shown


def test_interval_over_clusters_is_wider_where_their_mails_are_alike():
    right = np.repeat(np.random.default_rng(0).random(20) < 0.5, 30)[None, :].astype(float).repeat(3, axis=0)
    draws = Draws(3, [str(number // 30) for number in range(600)], Evaluation(bootstrap=300))
    alone, together = draws.mails.value(right), draws.phrasings.value(right)
    assert alone.value == together.value and together.high - together.low > 2 * (alone.high - alone.low)


def test_mails_of_the_generator_are_new_and_of_phrasings_that_training_lacks(tmp_path):
    held = [json.loads(line) for line in (generate.HERE / "holdout.jsonl").read_text().splitlines()]
    rows = generated(generate.HERE / "holdout.jsonl", 100)
    assert len({row["input"] for row in rows}) == 100 and not {row["input"] for row in rows} & {row["input"] for row in held}
    assert not any(row["seen"] for row in rows) and rows[0].keys() == held[0].keys()
    assert rows[:50] == generated(generate.HERE / "holdout.jsonl", 50)
    assert not {row["phrasing"] for row in rows} & {mail.phrasing["id"] for mail in generate.train()}
    (tmp_path / "holdout.jsonl").write_text("{}")
    assert generated(tmp_path / "holdout.jsonl", 5) == []


calls = []


def train(context):
    calls.append(context.job.name)
    [student] = context.contract.students
    context.writer.metrics = {**METRICS, "name": student.name, "seed": student.seed}
    context.writer.folder.write("model/config.json", b"{}")
    return RowCounts(1, {"trained": 1})


def tokenise(context):
    rows = context.artifact(context.job.needs[0]).table("examples").rows
    return RowCounts(rows, {"tokenised": rows})


def read_mails(context):
    same = {"task_unit": "count", "layer": "core", "language": "en", "messages": [{"role": "user", "content": "x"}]}
    rows = [{**same, "prompt_id": name, "text": name, "scenario": name[-1:], "reference": "2"} for name in MAILS]
    context.writer.put("holdout", from_rows(rows, HOLDOUT), HOLDOUT)
    context.writer.put("prompts", from_rows(rows[:1], PROMPT), PROMPT)
    return RowCounts(13, {"holdout": 12, "prompts": 1})


def evaluate(targets, rows, profile, *, ledger):
    """Students are right; free, one in three is wrong. The teacher is right on half."""
    found = []
    for target in targets:
        calls.append(target.name)
        period = 2 if target.role == "teacher" else 100 if target.structured else 3
        found.append(Evaluated([Completion("3" if n % period == period - 1 else "2", "stop", 1, 1) for n in range(len(rows))]))
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run, with fake trainings and answers."""
    import jobs.pipeline
    import jobs.steps.prompts
    import jobs.terminal.session

    calls.clear()
    monkeypatch.setattr(jobs.pipeline, "TRAIN", f"{__name__}:train")
    monkeypatch.setattr(jobs.pipeline, "TOKENISE", f"{__name__}:tokenise")
    monkeypatch.setattr(jobs.steps.prompts, "run", read_mails)
    monkeypatch.setattr(jobs.terminal.session, "ray_session", lambda work, console: nullcontext())
    monkeypatch.setattr(recipe, "verify", lambda *args, **more: None)
    monkeypatch.setattr("engine.evaluation.flow.evaluate_alike", evaluate)
    return made_run(str(tmp_path / "run"), tmp_path / "seeds"), str(tmp_path / "work")


def ordered(work, contracts, *sets, seeds=2):
    return SimpleNamespace(contracts=contracts, sets=sets, students=["small"], seeds=seeds, mails=12)


def test_command_trains_and_asks_each_student_once_and_goes_on_where_it_was(run):
    work, folder = run
    contracts = [work.contract_path, f"long={work.contract_path}"]
    first = recipe.bench(work.folder.url, folder, order=ordered(work, contracts[:1]), profile="laptop")
    assert len(calls) == 2 * 4 + 1 and first.results[0].decoded["served"].by_seed == [1.0, 1.0]
    assert first.results[0].decoded["free"].mean.value == pytest.approx(8 / 12) and first.teacher.exact_match.value == 0.5
    assert first.mails == 12 and first.phrasings == 10 and first.seen == 2
    assert first.results[0].decoded["served"].of_teacher.value == 2.0
    both = recipe.bench(work.folder.url, folder, order=ordered(work, contracts, "long:students.small.epochs=9"), profile="laptop")
    assert len(calls) == 4 * 4 + 1 and both.results[0] == first.results[0]
    assert both.results[1].decoded["served"].difference.value == 0
    assert RecipeBench.model_validate_json((work.folder.fs).cat_file(f"{folder}/recipe.json")) == both
    again = recipe.bench(work.folder.url, folder, order=ordered(work, contracts[:1], seeds=3), profile="laptop")
    assert len(calls) == 5 * 4 + 1 and again.seeds == 3
    assert "less toy, with 95 % intervals" in as_text(both) and "less" not in as_text(first)


def test_jobs_run_side_by_side_and_none_begins_after_a_failure(monkeypatch):
    started, gate = [], threading.Event()

    def run(jobs, context):
        started.append(jobs[0].name)
        if jobs[0].name == "b":
            raise InputError("broken")
        assert gate.wait(10)

    monkeypatch.setattr(recipe_jobs, "run_pipeline", run)
    jobs = [(Job(name, (), reads=(), run=f"{__name__}:train"), lambda job: None) for name in "abcd"]
    threading.Timer(0.2, gate.set).start()
    with pytest.raises(InputError, match="broken"):
        recipe_jobs.side_by_side(jobs, 2)
    assert started[:2] == ["a", "b"] and len(started) <= 3 and "d" not in started  # c may have begun as b failed


def test_contract_that_needs_other_examples_is_refused_before_anything_runs(run):
    work, folder = run
    order = ordered(work, [work.contract_path], "curation.pick.clusters=3")
    with pytest.raises(InputError, match=r"--contract toy: it orders other examples[^$]*curation.pick.clusters: "):
        recipe.bench(work.folder.url, folder, order=order, profile="laptop")
    assert not calls


def test_folder_of_another_run_is_refused(run):
    from engine.storage.folder import Folder

    work, folder = run
    recipe.bench(work.folder.url, folder, order=ordered(work, [work.contract_path], seeds=1), profile="laptop")
    record = json.loads((work.folder / "dataset").read("record.json"))
    Folder(work.folder.url + "/dataset").write("record.json", json.dumps({**record, "fingerprint": "other"}).encode())
    with pytest.raises(InputError, match="has trainings on other examples than those of the run"):
        recipe.bench(work.folder.url, folder, order=ordered(work, [work.contract_path], seeds=2), profile="laptop")


def test_model_that_cannot_be_loaded_counts_as_no_answer(run, monkeypatch):
    from engine.errors import ModelError
    from engine.evaluation.evaluator import failed

    work, folder = run
    monkeypatch.setattr(
        "engine.evaluation.flow.evaluate_alike", lambda targets, rows, *a, **b: [failed(12, "no weights")] * len(targets)
    )
    with pytest.raises(ModelError, match="no weights"):
        recipe.bench(work.folder.url, folder, order=ordered(work, [work.contract_path], seeds=1), profile="laptop")
