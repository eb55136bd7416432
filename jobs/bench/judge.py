"""`rayleigh bench judge`: the judge against bare `vllm.LLM`, on the same prompts, engine arguments and prefix caching.

`--json` prints a `JudgeBench`.
"""

import json
import re
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

from engine.contract.contract import Contract
from engine.contract.profile import Profile, load_profile
from engine.inference.engine import Chat
from engine.records.base import Record
from engine.rows import ANSWER, CANDIDATE, PROMPT, Row, add, content_id, from_rows
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.bench import smoke, turns
from jobs.bench.turns import RunTasks, Throughput, serve
from jobs.bench.watch import put_artifact, rayleigh
from jobs.workspace import Workspace

SAMPLES = 2


class Ratio(Record):
    """Scores per second, divided by those of `bare`."""

    stage: float
    """The median over the rounds of the ratio within a round."""
    job: float


class JudgeBench(Record):
    """Scores per second of three ways to judge the same answers."""

    answers: int
    """Answers of a round."""
    bare: Throughput
    """`vllm.LLM` as its documentation has it: all chats of the judge in one call, log-probabilities of the marks out."""
    stage: Throughput
    """The grader with its checks and its ledger, in the blocks of the profile."""
    job: Throughput
    """`rayleigh rejudge` of a run with these answers."""
    ratio: Ratio
    """Speed relative to `bare`."""


def bench(answers: int, rounds: int, *, profile: str) -> JudgeBench:
    """Measure `rounds` rounds of `answers` answers, then a whole job."""
    where = str(places.profile_path(profile))
    of_bare, of_stage, ratio = turns.take_turns(bare, stage, answers, rounds, profile=where, pool="judge")
    job = _job(answers, where)
    ratios = Ratio(stage=ratio, job=round(job.per_second / of_bare.per_second, 3))
    return JudgeBench(answers=answers, bare=of_bare, stage=of_stage, job=job, ratio=ratios)


def bare(pipe: Connection, answers: int, profile: str) -> None:
    """Score all answers with one call of `vllm.LLM.chat`."""
    started = time.perf_counter()
    from engine.inference.vllm_engine import VllmEngine

    contract, loaded, recorder = smoke.contract(smoke.judged()), load_profile(Path(profile)), Recorder()
    model = contract.judges.rubrics[0].model
    assert model.type == "vllm"
    engine = VllmEngine(model, loaded.judge, smoke.weights(model))  # for its arguments; only its `llm` is used
    _grade(contract, loaded, recorder, _blocks(answers, loaded))
    tokens = [engine.tokenizer.encode(choice, add_special_tokens=False)[0] for choice in recorder.choices]
    params = engine.vllm.SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=tokens)

    def prepare(number: int) -> RunTasks:
        llm: Any = engine.llm
        engine.reset_prefix_cache()  # as at the start of each batch of the stage
        return lambda count: len(llm.chat(recorder.chats[:count], params, use_tqdm=False))

    serve(pipe, prepare, answers, started)


def stage(pipe: Connection, answers: int, profile: str) -> None:
    """Score all answers with the grader, its checks and its ledger."""
    started = time.perf_counter()
    from engine.inference.engine import build_model

    contract, loaded = smoke.contract(smoke.judged()), load_profile(Path(profile))
    model = contract.judges.rubrics[0].model
    engine = build_model(model, loaded.judge, folder=smoke.weights(model))
    blocks = _blocks(answers, loaded)
    serve(pipe, lambda number: lambda count: _grade(contract, loaded, engine, _first(blocks, count)), answers, started)


class Recorder:
    """An engine that records the chats it is asked to score."""

    identity, tokens_read = "recorder", 0

    def __init__(self) -> None:
        self.chats: list[Chat] = []
        self.choices: Sequence[str] = ()

    def reset_prefix_cache(self) -> None:
        """There is no cache."""

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Record the chats; every choice gets the same probability."""
        self.chats += chats
        self.choices = choices
        return [[1 / len(choices)] * len(choices) for _ in chats]


def _first(blocks: list[pa.Table], count: int) -> list[pa.Table]:
    """Return the first `count` rows of `blocks`."""
    starts = accumulate((len(block) for block in blocks), initial=0)
    return [block.slice(0, count - start) for block, start in zip(blocks, starts, strict=False) if start < count]


def _grade(contract: Contract, profile: Profile, engine: Any, blocks: list[pa.Table]) -> int:
    """Grade the answers of `blocks` with an empty ledger; return the number of scores."""
    from engine.grading.grader import Grader
    from engine.inference.client import ClientSpec
    from engine.judges.grader_spec import GraderSpec

    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        rubric = contract.judges.rubrics[0]
        ledger, markers, budget = (Folder(name) / part for part in ("judgements", "markers", "budget"))
        weights = smoke.weights(rubric.model)
        client = ClientSpec(rubric.model, profile.judge, weights, ledger, markers, budget, payee=rubric.name)
        grader = Grader(GraderSpec(contract.judges, contract.specialist, profile.judge, {rubric.name: client}))
        assert grader.judge
        grader.judge.clients[rubric.name].client.engine = engine
        graded = [grader(block) for block in blocks]
    return sum(len(table) - table["score"].null_count for table in graded)


def _job(answers: int, profile: str) -> Throughput:
    """Run `rayleigh rejudge` on a run whose answers were graded by another judge."""
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        run = Path(name, "run")
        changes = [*smoke.judged(), "judges.rubrics.0.system=Another."]
        work = workspace.create(str(smoke.CONTRACT), str(run), profile=profile, changes=changes)
        # One judge, as in the other ways, and no resources for teachers.
        resources = {"judge": {"actors": 1}, "teacher": {"cpus": 0, "gpus": 0}}
        pools = {name: getattr(work.profile, name).model_copy(update=update) for name, update in resources.items()}
        _put_answers(replace(work, profile=work.profile.model_copy(update=pools)), answers)
        usage = rayleigh(
            ["rejudge", str(run), "--contract", str(smoke.CONTRACT)], log=run.with_suffix(".log"), changes=smoke.judged()
        )
        paths = run.glob("ledger/judgements/**/*.parquet")
        blocks = sorted((path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in paths)
    scores, (first, first_rows), (last, _) = sum(rows for _, rows in blocks), blocks[0], blocks[-1]
    steady = (scores - first_rows) / (last - first) if len(blocks) > 1 else scores / usage.seconds
    return Throughput(count=scores, per_second=round(steady, 1), with_start=round(scores / usage.seconds, 1))


def _put_answers(work: Workspace, answers: int) -> None:
    """Write a run folder in which the jobs `prompts` and `candidates` are finished."""
    work.save()
    blocks = list(_blocks(answers, work.profile))
    put_artifact(work, "prompts", [block.select(PROMPT.names).slice(0, 1) for block in blocks], PROMPT, label="prompts")
    put_artifact(work, "candidates", map(_unjudged, blocks), CANDIDATE, label="review")


def _unjudged(answers: pa.Table) -> pa.Table:
    """Return CANDIDATE of ANSWER rows, in the pool `review` and without any score."""
    added, rows = CANDIDATE.names[len(ANSWER.names) :], len(answers)
    columns = {name: ["review"] * rows if name == "pool" else pa.nulls(rows, CANDIDATE.field(name).type) for name in added}
    return add(answers, CANDIDATE, columns)


def _blocks(answers: int, profile: Profile) -> list[pa.Table]:
    """Return ANSWER rows in the blocks of the profile: forms that pass the checks, for the first mails of the contract's source."""
    prompts, unit = -(-answers // SAMPLES), smoke.contract(()).specialist.task_units[0].name
    rows = [_answer(text, sample, unit) for text in smoke.mails(prompts) for sample in range(SAMPLES)][:answers]
    size = profile.teacher.block(prompts, answers=SAMPLES) * SAMPLES
    return [from_rows(rows[start : start + size], ANSWER) for start in range(0, len(rows), size)]


def _answer(text: str, sample: int, task_unit: str) -> Row:
    """Return an ANSWER row: a form with the numbers in `text`; the second sample has no order number."""
    order_number, quantity = re.search(r"\b\d{5}\b", text), re.search(r"\b\d{1,3}\b", text)
    form = {
        "order_number": order_number[0] if order_number and not sample else None,
        "product": None,
        "quantity": quantity[0] if quantity else None,
    }
    return {
        **{"prompt_id": content_id(text), "answer_id": content_id(text, sample), "sample": sample, "task_unit": task_unit},
        **{"layer": "core", "redacted": [], "teacher": "bench", "finish_reason": "stop", "trajectory": []},
        **{"text": text, "messages": [{"role": "user", "content": text}], "answer": json.dumps(form, indent=sample or None)},
        **{"tokens_in": 0, "tokens_out": 0, "seconds": 0.0},
    }
