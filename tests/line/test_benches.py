"""Benchmarks that train, through the command, on a very small model: that they run, go on after a kill, and count right."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import students_world as world
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from engine.rows import EXAMPLE, HOLDOUT, PROMPT, from_rows
from engine.runs.job import run_job
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts
from jobs import workspace
from jobs.bench.prune import PruneBench
from jobs.bench.recipe_table import RecipeBench
from jobs.bench.train import PARTS, TrainBench
from jobs.bench.view import ViewBench
from jobs.pipeline import pipeline

pytestmark = [pytest.mark.benches, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
WORDS = [f"say {word}" for word in ("abc", "bcd", "cde", "def", "efg", "fgh")]
CONTRACT = {
    "name": "toy",
    "specialist": {"goal": "copy", "task_units": [{"name": "copy", "kind": "rewrite"}]},
    "prompts": {
        "sources": [{"path": "seeds.jsonl", "licence": "CC0-1.0"}],
        "holdout": {"path": "holdout.jsonl", "labels": "rule"},
    },
    "teachers": {
        "mode": "direct",
        "models": [
            {"name": "t", "model": {"type": "vllm", "path": "teacher", "max_model_len": 256}, "sampling": {"max_tokens": 8}}
        ],
    },
    "judges": {},
    "curation": {"semantic": None},
    "students": [{"name": "small", "init": {"prune": {"source": "teacher", "layers": [0, 2]}}, **world.SHORT}],
    "gate": {},
}
PROFILE = """
name: test
ray: {num_cpus: 8, object_store_gib: 0.1}
trainer: {cpus: 0.5}
evaluator: {cpus: 1, kv_cache_gib: 0.1, max_num_seqs: 8}
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a contract, a profile, and a run whose dataset and tokens are finished."""
    folder = tmp_path_factory.mktemp("benches")
    rows = world.examples()
    world.write_teacher(folder / "teacher", [row["messages"][0]["content"] + row["target"] for row in rows])
    shape = LlamaConfig.from_pretrained(folder / "teacher")
    more = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}  # of a size that vLLM has
    LlamaForCausalLM(LlamaConfig(**{**shape.to_dict(), **more})).to(torch.bfloat16).save_pretrained(folder / "teacher")
    (folder / "seeds.jsonl").write_text('{"input": "say a"}\n')
    (folder / "holdout.jsonl").write_text("".join(json.dumps({"input": text, "reference": text}) + "\n" for text in WORDS))
    (folder / "toy.yaml").write_text(yaml.safe_dump(CONTRACT))
    (folder / "profile.yaml").write_text(PROFILE)
    work = workspace.create(str(folder / "toy.yaml"), str(folder / "run"), profile=str(folder / "profile.yaml"), changes=[])
    work.save()
    for job in [job for job in pipeline(work.contract) if job.name in ("prompts", "candidates", "dataset", "tokens")]:
        context = work.context(job, log=print, progress=print)
        if job.name == "tokens":
            run_job(context)
            continue
        if job.name == "prompts":
            same = {"task_unit": "copy", "layer": "core", "language": "en", "scenario": ""}
            held = [
                {**same, "prompt_id": text, "text": text, "messages": [{"role": "user", "content": text}], "reference": text}
                for text in WORDS
            ]
            context.writer.put("holdout", from_rows(held, HOLDOUT), HOLDOUT)
            context.writer.put("prompts", PROMPT.empty_table(), PROMPT)
        if job.name == "dataset":
            context.writer.put("examples", from_rows(rows, EXAMPLE), EXAMPLE)
        context.writer.finish(identify(context), RowCounts(len(rows), {"rows": len(rows)}))
    return folder


def start(folder: Path, *words: object) -> subprocess.Popen:
    """Start the command; its output goes to two files."""
    command = [sys.executable, "-m", "jobs.cli", "bench", *map(str, words), "--profile", folder / "profile.yaml", "--json"]
    with (folder / "out").open("w") as out, (folder / "err").open("a") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def finish(folder: Path, driver: subprocess.Popen) -> str:
    """Return what the command printed."""
    try:
        assert driver.wait(timeout=850) == 0, (folder / "err").read_text()[-5000:]
    finally:
        driver.kill()
    return (folder / "out").read_text()


def test_recipes_are_compared_and_a_killed_bench_goes_on(toy: Path) -> None:
    contract, work = toy / "toy.yaml", toy / "work"
    words = ["recipe", toy / "run", "--work", work, "--contract", contract, "--contract", f"short={contract}"]
    words += ["--set", "short:students.small.epochs=1", "--seeds", 1, "--mails", 0]
    driver = start(toy, *words)
    deadline = time.monotonic() + 300
    while not (trained := list(work.glob("trainings/*/students/*/record.json"))):
        assert driver.poll() is None and time.monotonic() < deadline, (toy / "err").read_text()[-5000:]
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {path: path.stat().st_mtime_ns for path in trained}
    result = RecipeBench.model_validate_json(finish(toy, start(toy, *words)))
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what had ended was not trained again
    assert [(each.contract, each.student) for each in result.results] == [("toy", "small"), ("short", "small")]
    assert result.mails == 6 and result.teacher and result.teacher.name == "t" and result.results[1].decoded["served"].difference
    assert result.results[0].steps != result.results[1].steps
    rows = ds.dataset(work / "answers" / "holdout" / result.results[0].trainings[0] / "free").to_table().to_pylist()
    assert sorted(row["text"] for row in rows) == sorted(WORDS)
    assert sum(row["exact"] for row in rows) / 6 == pytest.approx(result.results[0].decoded["free"].mean.value)
    assert not list(work.glob("trainings/*/ledger/checkpoints/*"))


def test_layers_by_hand_and_by_importance_are_compared_at_equal_size(toy: Path) -> None:
    words = ["prune", toy / "run", "--work", toy / "pruned", "--student", "small", "--seeds", 1, "--steps", 1, "--epochs", 1]
    result = PruneBench.model_validate_json(finish(toy, start(toy, *words)))
    assert result.seeds == 1 and result.prompts == len(WORDS)
    assert result.by_importance.parameters[0] <= result.by_hand.parameters[0]
    assert result.by_importance.shapes and not result.by_hand.shapes


def test_every_part_of_the_bench_of_training_gives_its_ratios(toy: Path) -> None:
    words = ["train", "--run", toy / "run", "--steps", 3, "--rounds", 1]
    result = TrainBench.model_validate_json(finish(toy, start(toy, *words)))
    assert [(each.above, each.below) for each in result.ratios] == [pair for part in PARTS.values() for pair in part]
    assert result.capture == "made-up" and result.teacher_tokens == 0
    assert all(way.seconds[0] > 0 for way in result.ways.values()) and result.tokens > 0
    assert [each.part for each in result.spent] == list(PARTS) and all(
        each.start > 0 and each.rounds[0] > 0 for each in result.spent
    )
    assert "round 1 of 1 took" in (toy / "err").read_text()


def test_bare_script_has_the_losses_of_the_loop(toy: Path) -> None:
    """Else the two would not be compared at equal work."""
    code = f"""
import json, tempfile
from pathlib import Path
from jobs import workspace
from jobs.bench import train, train_sides
work = workspace.reopen({str(toy / "run")!r})
spec = train.task_of(work, train.Order(None, 4, 1, [])).spec
train_sides.join(spec)
with tempfile.TemporaryDirectory() as scratch:
    training = train_sides.set_up(spec, Path(scratch, "loop"))
    script = train_sides.Bare(spec, Path(scratch))
    rows, total = train_sides.batches(script.splits["train"], spec, 4), training.total_steps
    losses = []
    for number, each in enumerate(rows):
        losses.append(script.step(each, number, total))
        train_sides.timed(training, each)
print(json.dumps([losses, [each["loss"] for each in training.progress.curve]]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    bare, loop = json.loads(done.stdout.splitlines()[-1])
    assert bare == pytest.approx(loop, abs=1e-5) and len(set(loop)) == 4


def test_view_bench_asks_a_real_server_for_every_kind_of_page(tmp_path: Path) -> None:
    words = ["bench", "view", "--rows", "400", "--rounds", "1", "--work", str(tmp_path), "--json"]
    done = subprocess.run([sys.executable, "-m", "jobs.cli", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = ViewBench.model_validate_json(done.stdout)
    assert result.rows == 400 and len(result.pages) > 15 and all(page.seconds > 0 and page.kib > 1 for page in result.pages)
