"""The judge against bare `vllm.LLM`, on the very prompts that it asks, with the same engine arguments and prefix caching.

`rayleigh bench judge --json` prints

    answers             that are marked in a round
    bare                `vllm.LLM` as its documentation has it: all the judge's chats in one call, the marks' log probabilities out
    stage               the grader with its checks and its ledger, in the blocks of the profile
    job                 `rayleigh rejudge` of a run with these answers: Ray's stream around that
        marks               chats that were answered
        marks_per_second    without start-up: median of the rounds; of the job from its first block on record to its last
        with_start          the same with the loading of the model; of the job with the start of its processes
        rounds              marks per second of each; `bare` and `stage` take turns, each in a process of its own
    ratio               stage: median over the rounds of stage by bare of the same round; job: its by those of `bare`
"""

import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract import Contract, Profile, load_contract, load_profile
from engine.inference.engine import Chat
from engine.rows import ANSWER, CANDIDATE, PROMPT, add, content_id, from_rows
from engine.runs.job import recipe_head
from engine.storage.artifact import RowCounts
from engine.storage.shards import Folder, Table, hex_digest, rows_digest, write_shard
from jobs import workspace
from jobs.bench.turns import Ask, Worker, serve, told
from jobs.bench.watch import ROOT, put_prompts, watch
from jobs.commands.run import set_environment
from jobs.pipeline import line
from jobs.workspace import Workspace

CONTRACT = ROOT / "jobs/contracts/smoke.yaml"
CHANGES = ["judges.calibrate=null", "judges.audit=null"]  # both sides mark the answers, nothing else
SAMPLES = 2


def bench(answers: int, rounds: int, *, profile: str) -> dict[str, Any]:
    """Return the object that the module describes."""
    where = str(workspace.profile_path(profile))
    set_environment(load_profile(Path(where)))
    workers = {side.__name__: Worker(side, answers, where, pool="judge") for side in (bare, stage)}
    turns = [{name: worker.round(number) for name, worker in workers.items()} for number in range(1, rounds + 1)]
    sides = {name: told(worker, [turn[name] for turn in turns], what="marks") for name, worker in workers.items()}
    job = _job(answers, where)
    ratio = {
        "stage": statistics.median(turn["stage"]["speed"] / turn["bare"]["speed"] for turn in turns),
        "job": job["marks_per_second"] / sides["bare"]["marks_per_second"],
    }
    return {"answers": answers, **sides, "job": job, "ratio": {name: round(value, 3) for name, value in ratio.items()}}


def bare(pipe: Connection, answers: int, profile: str) -> None:
    """`vllm.LLM` as its documentation has it: chats in, one `chat`."""
    started = time.perf_counter()
    order, pool = _order(), load_profile(Path(profile)).judge
    from engine.inference.vllm_engine import VllmEngine

    model = order.judges.rubrics[0].model
    assert model.type == "vllm"
    engine = VllmEngine(model, pool, _weights(order))  # the same arguments; from here on its `llm` alone
    heard = Recorder()
    where = load_profile(Path(profile))
    _grade(order, where, heard, _blocks(answers, where))
    tokens = [engine.tokenizer.encode(choice, add_special_tokens=False)[0] for choice in heard.choices]
    params = engine.vllm.SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=tokens)

    def prepare(number: int) -> Ask:
        llm: Any = engine.llm
        engine.reset_prefix_cache()  # each round begins with an empty prefix cache, as each batch of the stage does
        return lambda count: len(llm.chat(heard.chats[:count], params, use_tqdm=False))

    serve(pipe, prepare, answers, started)


def stage(pipe: Connection, answers: int, profile: str) -> None:
    """The grader with its checks and its ledger, as the streaming plan calls it."""
    started = time.perf_counter()
    from engine.inference.engine import build_model

    order, where = _order(), load_profile(Path(profile))
    loaded = build_model(order.judges.rubrics[0].model, where.judge, folder=_weights(order))
    blocks = _blocks(answers, where)
    serve(pipe, lambda number: lambda count: _grade(order, where, loaded, _first(blocks, count)), answers, started)


class Recorder:
    """Stands where the engine does, and keeps what it is asked."""

    identity, tokens_read = "recorder", 0

    def __init__(self) -> None:
        self.chats: list[Chat] = []
        self.choices: Sequence[str] = ()

    def reset_prefix_cache(self) -> None:
        """Nothing is cached."""

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Keep the chats; all choices are alike."""
        self.chats += chats
        self.choices = choices
        return [[1 / len(choices)] * len(choices) for _ in chats]


def _first(blocks: list[pa.Table], count: int) -> list[pa.Table]:
    """The first `count` rows of `blocks`."""
    starts = accumulate((len(block) for block in blocks), initial=0)
    return [block.slice(0, count - start) for block, start in zip(blocks, starts, strict=False) if start < count]


def _grade(order: Contract, profile: Profile, engine: Any, blocks: list[pa.Table]) -> int:
    """Grade answers, with a ledger of their own; return how many marks were given."""
    from engine.grading.grader import Grader
    from engine.judges.grader_spec import GraderSpec

    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        folder = Folder(name)
        rubric = order.judges.rubrics[0].name
        bar = GraderSpec(
            order.judges,
            order.specialist,
            profile.judge,
            ledger=folder / "judgements",
            markers=folder / "marks",
            budget=folder / "budget",
            weights={rubric: _weights(order)},
        )
        grader = Grader(bar)
        assert grader.judge
        grader.judge.clients[rubric].client.engine = engine
        graded = [grader(block) for block in blocks]
    return sum(len(table) - table["score"].null_count for table in graded)


def _job(answers: int, profile: str) -> dict[str, Any]:
    """One `rayleigh rejudge` of a run whose answers another judge has seen."""
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        run = Path(name, "run")
        work = workspace.create(str(CONTRACT), str(run), profile=profile, changes=[*CHANGES, "judges.rubrics.0.system=Another."])
        _put_answers(replace(work, profile=_alone(work.profile)), answers)
        words = [sys.executable, "-m", "jobs.cli", "rejudge", str(run), "--contract", str(CONTRACT)]
        words += [word for change in CHANGES for word in ("--set", change)]
        used = watch(words, cwd=ROOT, log=run.with_suffix(".log"))
        paths = run.glob("ledger/judgements/**/*.parquet")
        blocks = sorted((path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in paths)
    marks, (first, early), (last, _) = sum(rows for _, rows in blocks), blocks[0], blocks[-1]
    steady = (marks - early) / (last - first) if len(blocks) > 1 else marks / used.seconds
    return {"marks": marks, "marks_per_second": round(steady, 1), "with_start": round(marks / used.seconds, 1)}


def _alone(profile: Profile) -> Profile:
    """One judge, as on the other side, and no place of a teacher that another could take."""
    judge, teacher = profile.judge.model_copy(update={"actors": 1}), profile.teacher.model_copy(update={"cpus": 0, "gpus": 0})
    return profile.model_copy(update={"judge": judge, "teacher": teacher})


def _put_answers(work: Workspace, answers: int) -> None:
    """Leave a run folder whose jobs `prompts` and `candidates` have ended."""
    work.save()
    blocks = list(_blocks(answers, work.profile))
    put_prompts(work, [block.select(PROMPT.names).slice(0, 1) for block in blocks])
    context = work.context(line(work.contract)[1], log=print, progress=print)
    rows = [add(block, CANDIDATE, _unjudged(len(block))) for block in blocks]
    shards = [write_shard(context.writer.folder / "candidates", table, CANDIDATE) for table in rows]
    digest = hex_digest(sum(rows_digest(table) for table in rows))
    context.writer.tables["candidates"] = Table.of(shards, digest)
    total = sum(len(block) for block in blocks)
    context.writer.finish(recipe_head(context), RowCounts(total, {"review": total}))


def _unjudged(rows: int) -> dict[str, Any]:
    more = CANDIDATE.names[len(ANSWER.names) :]
    return {name: ["review"] * rows if name == "pool" else pa.nulls(rows, CANDIDATE.field(name).type) for name in more}


def _blocks(answers: int, profile: Profile) -> list[pa.Table]:
    """ANSWER rows as teachers hand them over: forms that pass the checks, to the first mails of the contract's source."""
    order = _order()
    prompts = -(-answers // SAMPLES)
    lines = (CONTRACT.parent / order.prompts.sources[0].path).read_text().splitlines()[:prompts]
    rows = [_answer(json.loads(said)["input"], sample, order) for said in lines for sample in range(SAMPLES)][:answers]
    size = profile.teacher.block(prompts, answers=SAMPLES) * SAMPLES
    return [from_rows(rows[start : start + size], ANSWER) for start in range(0, len(rows), size)]


def _answer(text: str, sample: int, order: Contract) -> dict[str, Any]:
    """A form with the numbers that its prompt states; the second one leaves the order number out."""
    order_number, quantity = re.search(r"\b\d{5}\b", text), re.search(r"\b\d{1,3}\b", text)
    form = {
        "order_number": order_number[0] if order_number and not sample else None,
        "product": None,
        "quantity": quantity[0] if quantity else None,
    }
    same = {
        "task_unit": order.specialist.task_units[0].name,
        "layer": "core",
        "redacted": [],
        "teacher": "bench",
        "finish_reason": "stop",
    }
    ids = {"prompt_id": content_id(text), "answer_id": content_id(text, sample), "sample": sample}
    said = {
        "text": text,
        "messages": [{"role": "user", "content": text}],
        "answer": json.dumps(form, indent=sample or None),
        "trajectory": [],
    }
    return same | ids | said | {"tokens_in": 0, "tokens_out": 0, "seconds": 0.0}


def _order() -> Contract:
    return load_contract(CONTRACT, CHANGES).contract


def _weights(order: Contract) -> Path | None:
    from engine.inference.locate import locate

    return locate(order.judges.rubrics[0].model.path, root=str(CONTRACT.parent), home=workspace.models_home())


def as_text(found: dict[str, Any]) -> str:
    """Return the object in a few lines."""
    sides = [f"{name}: {found[name]['marks_per_second']} marks/s" for name in ("bare", "stage", "job")]
    return "\n".join([*sides, f"ratio to bare vLLM: {found['ratio']}"])
