"""`rayleigh ablate --buckets` and `--curve` on a finished run, with trainings and answers by rule; no Ray."""

import json
from contextlib import nullcontext

import pytest
from made_run import made_run
from typer.testing import CliRunner

from engine.errors import InputError, MissingArtifact
from engine.evaluation.buckets import ExampleFacts, buckets
from engine.records.attribution import Attribution
from engine.records.curve import LearningCurve
from engine.rows import EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, REJECT, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs.cli import app
from jobs.commands import ablate_buckets, ablate_curve, ablate_trainings
from jobs.pipeline import pipeline

COUNT, HELD = 60, 20
trained = []


def answer(number):
    """Teacher `bad` wrote every third answer, wrongly; each second prompt was paraphrased."""
    is_bad = number % 3 == 0
    return {
        "prompt_id": f"p{number:02}", "answer_id": f"{number:032x}", "task_unit": "count", "text": f"text {number}", "line": number,
        "messages": [{"role": "user", "content": f"text {number}"}], "layer": "core", "difficulty": "easy",
        "scenario": f"s{number}", "source": "synthesize/paraphrase" if number % 2 else "seeds.jsonl",
        "teacher": "bad" if is_bad else "t", "answer": "wrong" if is_bad else "right", "finish_reason": "stop", "pool": "train",
        "dropped_by": "", "duplicate_of": "", "reasons": [], "checks": [], "sample": 0, "tokens_in": 1, "tokens_out": 1,
        "cluster": 0,
    }  # fmt: skip


def held(number):
    prompt = {**answer(number), "prompt_id": f"h{number:02}", "reference": "right", "line": number}
    return {name: prompt.get(name) for name in HOLDOUT.names}


def write_dataset(context):
    rows = [answer(number) for number in range(COUNT)]
    context.writer.put("picked", from_rows(rows, PICKED), PICKED)
    examples = [
        {**row, "example_id": row["answer_id"], "target": row["answer"], "final": row["answer"], "rationale": "", "limits": "",
         "weight": 1.0, "split": "validation" if number % 10 == 9 else "train", "kind": "answer"}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    context.writer.put("examples", from_rows(examples, EXAMPLE), EXAMPLE)
    return RowCounts(COUNT, {"kept": COUNT})


def write_prompts(context):
    context.writer.put("prompts", from_rows([{**answer(number), "licence": "CC0-1.0"} for number in range(COUNT)], PROMPT), PROMPT)
    context.writer.put("holdout", from_rows([held(number) for number in range(HELD)], HOLDOUT), HOLDOUT)
    context.writer.put("rejects", REJECT.empty_table(), REJECT)
    return RowCounts(COUNT + HELD, {"prompts": COUNT, "holdout": HELD})


def train(context):
    """A stand-in: the model is the share of right targets among its examples, and their number."""
    table = context.artifact(context.job.needs[0]).read("examples", EXAMPLE)
    trained.append(context.job.name)
    targets = table["target"].to_pylist()
    learnt = {"right": targets.count("right") / len(targets), "examples": len(targets)}
    context.writer.folder.write("model/learnt.json", json.dumps(learnt).encode())
    return RowCounts(len(table), {"trained": len(table)})


def tokenise(context):
    rows = context.artifact(context.job.needs[0]).table("examples").rows
    return RowCounts(rows, {"tokenised": rows})


def examine(context):
    """A student answers the first prompts right: as many as the share of right targets, less for few examples."""
    holdout = context.artifact("prompts").read("holdout", HOLDOUT).to_pylist()
    rows = []
    for need in context.job.needs[1:]:
        learnt = json.loads((context.run / need).read("model/learnt.json"))
        seed = int(need.rpartition("-")[2])
        able = HELD * learnt["right"] - 20 / learnt["examples"] + seed % 2
        name, wrong = need.rpartition("/")[2], "as t" if learnt["examples"] > 20 else "own"
        rows += [
            {**row, "model": name, "exact": index < able, "answer": "right" if index < able else wrong}
            for index, row in enumerate(holdout)
        ]
    context.writer.put("predictions", from_rows(rows, PREDICTION), PREDICTION)
    return RowCounts(len(rows), {"answers": len(rows)})


@pytest.fixture
def run(tmp_path, monkeypatch):
    import jobs.pipeline
    import jobs.terminal.session

    trained.clear()
    for name, function in (("TRAIN", "train"), ("TOKENISE", "tokenise")):
        monkeypatch.setattr(jobs.pipeline, name, f"{__name__}:{function}")
    monkeypatch.setattr(jobs.terminal.session, "ray_session", lambda work, console: nullcontext())
    monkeypatch.setattr(ablate_trainings, "examine", examine)
    work = made_run(str(tmp_path / "run"), tmp_path)
    made = {job.name: job for job in pipeline(work.contract)}
    for name, build in (("prompts", write_prompts), ("dataset", write_dataset)):
        (work.folder / name).remove()
        context = work.context(made[name], log=lambda text: None, progress=lambda text: None)
        context.writer.clear()
        context.writer.finish(identify(context), build(context))
    return work


def test_teacher_that_is_wrong_is_named_and_the_result_is_kept(run):
    result = ablate_buckets.ablate(run.folder.url, student=None, seeds=4)
    assert result.student == "small" and result.clusters == HELD  # both have as many parameters: the first
    named = {f"{each.kind} {each.value}": each for each in result.buckets}
    assert named["teacher bad"].verdict == "hurts" and named["teacher bad"].examples == 20 and named["teacher bad"].size == 30
    assert named["synthesis paraphrase"].verdict == "unclear" and named["pool train"].left_out == "all examples are in it"
    assert Attribution.model_validate_json(run.folder.read(ablate_buckets.RESULT)) == result
    text = ablate_buckets.as_text(result)
    assert "teacher bad" in text and "hurts" in text and "not trained: all examples are in it" in text


def test_more_seeds_train_only_what_is_missing(run):
    ablate_buckets.ablate(run.folder.url, student="small", seeds=2)
    first = list(trained)
    assert len(first) == len(set(first)) and all("seed" in name for name in first if "teacher" in name or "/all" in name)
    ablate_buckets.ablate(run.folder.url, student="small", seeds=3)
    assert len(trained) == len(first) * 3 // 2 and len(set(trained)) == len(trained)


def test_curve_trains_on_shares_and_fits_a_law(run):
    result = ablate_curve.ablate(run.folder.url, student="small", seeds=3)
    assert [point.examples for point in result.points] == [15, 30, 60] and len(trained) == 9
    assert result.next_examples == 120 and result.next_gain.low < result.next_gain.value < result.next_gain.high
    assert LearningCurve.model_validate_json(run.folder.read(ablate_curve.RESULT)) == result
    assert "power law" in ablate_curve.as_text(result) and "120 examples would bring" in ablate_curve.as_text(result)
    folders = {name.split("/")[1].rsplit("-", 1)[0] for name in trained}
    assert folders == {"curve-100", *(f"curve-{share}-seed-{seed}" for share in (25, 50) for seed in range(3))}


def test_curve_tells_whether_more_data_teaches_the_teachers_errors(run):
    rows = [{**held(number), "model": "t", "role": "teacher", "answer": "as t", "exact": number < 10} for number in range(HELD)]
    job = next(job for job in pipeline(run.contract) if job.name == "reports")
    (run.folder / "reports").remove()
    context = run.context(job, log=lambda text: None, progress=lambda text: None)
    context.writer.put("predictions", from_rows(rows, PREDICTION), PREDICTION)
    context.writer.finish(identify(context), RowCounts(HELD, {"stop": HELD}))
    result = ablate_curve.ablate(run.folder.url, student="small", seeds=3)
    small, _, whole = [point.errors_shared for point in result.points]
    assert small.value == 0 and whole.value > 0.5 and small.n == 30  # ten wrong answers of the teacher, three seeds
    assert result.bias_growth.value == pytest.approx(whole.value) and result.bias_growth.low > 0


def test_curve_of_one_seed_has_no_law(run):
    result = ablate_curve.ablate(run.folder.url, student="small", seeds=1)
    assert result.next_gain is None and "needs two seeds" in ablate_curve.as_text(result)


def test_smallest_student_needs_a_trained_one(run):
    for name in ("small", "large"):
        (run.folder / f"students/{name}").remove()
    with pytest.raises(MissingArtifact, match="Name one with --student"):
        ablate_curve.ablate(run.folder.url, student=None, seeds=1)


def test_run_without_buckets_says_why(tmp_path):
    work = made_run(str(tmp_path / "run"), tmp_path)
    with pytest.raises(InputError, match="teacher t: all examples are in it"):
        ablate_buckets.ablate(work.folder.url, student="small", seeds=2)


def test_command_takes_one_of_buckets_and_curve(run):
    result = CliRunner().invoke(app, ["ablate", run.folder.url, "--buckets", "--curve"])
    assert result.exit_code == 1 and "found both, expected one of them" in result.output


def test_examples_with_other_quoted_values_are_a_bucket():
    def fact(name, kind):
        return ExampleFacts(name, teacher="t", pool="train", tier=None, synthesis="", contrastive=kind)

    names = [f"{number:02}" for number in range(40)]
    facts = [*(fact(name, "") for name in names), *(fact(f"{name}-swap1", "swap") for name in names[:10]), fact("50-ask", "ask")]
    found = {bucket.name: bucket for bucket in buckets(facts, seeds=2)}
    swaps = found["contrastive swap"]
    assert swaps.what == "examples with other quoted values, made of other examples (curation.swaps)" and swaps.examples == 10
    assert swaps.without and swaps.with_it and swaps.without.size == swaps.with_it.size == 38
    assert not any("swap" in name for draw in swaps.without.draws for name in draw)
    assert found["contrastive ask"].what == "examples of the kind ask, made of failed answers"
