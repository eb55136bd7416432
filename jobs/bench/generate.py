"""`rayleigh bench generate`: the teacher against bare `vllm.LLM`, on the same prompts, sampling and engine arguments.

`--json` prints a `GenerateBench`.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from operator import ne
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from engine.contract.profile import load_profile
from engine.inference.engine import Request, instruct
from engine.records.base import Record
from engine.rows import PROMPT, Row, content_id, from_rows
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.bench import smoke, turns
from jobs.bench.turns import RunTasks, Throughput, serve
from jobs.bench.watch import put_artifact, run_candidates

MOVED_PROMPTS = 64  # prompts of which `moved` is measured: alone in its batch, each takes as long as many together
SAMPLED = ["teachers.models.0.sampling.greedy_first=false"]  # both sides sample every answer


class Ratio(Record):
    """Tokens per second, divided by those of `bare`."""

    stage: float
    """The median over the rounds of the ratio within a round."""
    job: float
    judged: float
    spans: float
    """`stage`, which decodes spans of the prompt, by `plain`."""


class GenerateBench(Record):
    """Tokens per second of four ways to answer the same prompts."""

    prompts: int
    """Prompts of a round."""
    samples: int
    """Answers per prompt."""
    bare: Throughput
    """`vllm.LLM` as its documentation has it: all chats in one call."""
    plain: Throughput
    """The same with the schema as it is, without the spans of the prompt."""
    stage: Throughput
    """The teacher op with its ledger, in the batches of the profile."""
    job: Throughput
    """`rayleigh run --until candidates` with that teacher and the checks."""
    judged: Throughput
    """The same with the judge on the same cores."""
    ratio: Ratio
    """Speed relative to `bare`."""
    moved: float
    """Share of greedy texts that differ when each prompt is alone in its batch: what bfloat16 makes of batch company."""


def bench(prompts: int, rounds: int, *, profile: str) -> GenerateBench:
    """Measure `rounds` rounds of `prompts` prompts, then two whole jobs."""
    where = str(places.profile_path(profile))
    of_bare, of_stage, ratio_of_stage = turns.take_turns(bare, stage, prompts, rounds, profile=where, pool="teacher")
    of_plain, _, spans = turns.take_turns(plain, stage, prompts, rounds, profile=where, pool="teacher")
    direct, judged = (_job(prompts, mode, where) for mode in ("direct", "judged"))
    of_jobs = {name: round(job.per_second / of_bare.per_second, 3) for name, job in (("job", direct), ("judged", judged))}
    ratio = Ratio(stage=ratio_of_stage, spans=spans, **of_jobs)
    samples = smoke.contract(SAMPLED).teachers.models[0].sampling.n
    ways = {"bare": of_bare, "plain": of_plain, "stage": of_stage, "job": direct, "judged": judged}
    share = turns.Worker(moved, min(prompts, MOVED_PROMPTS), where, pool="teacher").last_round()
    return GenerateBench(prompts=prompts, samples=samples, **ways, ratio=ratio, moved=share)


def bare(pipe: Connection, prompts: int, profile: str) -> None:
    """Answer all prompts with one call of `vllm.LLM.chat`."""
    _bare(pipe, prompts, profile, spans=True)


def plain(pipe: Connection, prompts: int, profile: str) -> None:
    """As `bare`, with the task's schema for every prompt."""
    _bare(pipe, prompts, profile, spans=False)


def _bare(pipe: Connection, prompts: int, profile: str, *, spans: bool) -> None:
    started = time.perf_counter()
    spec = _teacher_spec(profile)
    from engine.inference.decodable import decodable
    from engine.inference.vllm_engine import VllmEngine

    engine = VllmEngine(spec.client.model, spec.client.pool, spec.client.weights)  # the same arguments; then only its `llm`
    sampling = spec.section.sampling
    requests = [request for request in _greedy_requests(spec, prompts) for _ in range(sampling.n)]
    chats = [request.chat for request in requests]
    asked = spec.specialist.task_units[0].output.json_schema
    schemas = [decodable((request.json_schema if spans else asked) or {}).schema for request in requests]

    def prepare(number: int) -> RunTasks:
        params = [
            engine.vllm.SamplingParams(
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                seed=number * 10_000 + index,
                structured_outputs=engine.vllm.sampling_params.StructuredOutputsParams(json=schema),
            )
            for index, schema in enumerate(schemas)
        ]
        llm: Any = engine.llm
        engine.reset_prefix_cache()  # as at the start of each batch of the stage

        def run_tasks(count: int) -> int:
            end = count * sampling.n
            return sum(len(reply.outputs[0].token_ids) for reply in llm.chat(chats[:end], params[:end], use_tqdm=False))

        return run_tasks

    serve(pipe, prepare, prompts, started)


def stage(pipe: Connection, prompts: int, profile: str) -> None:
    """Answer all prompts with the teacher op and its ledger."""
    started = time.perf_counter()
    from engine.inference.engine import build_model
    from engine.teachers.teacher import Teacher

    spec, rows = _teacher_spec(profile), _rows(prompts)
    loaded = build_model(spec.client.model, spec.client.pool, folder=spec.client.weights)

    def prepare(number: int) -> RunTasks:
        sampling = spec.section.sampling.model_copy(update={"seed": number})  # other seeds: nothing is in the ledger yet
        teacher = Teacher(replace(spec, section=spec.section.model_copy(update={"sampling": sampling})))
        teacher.client.engine = loaded
        return lambda count: sum(teacher(from_rows(rows[:count], PROMPT))["tokens_out"].to_pylist())

    serve(pipe, prepare, prompts, started)


def moved(pipe: Connection, prompts: int, profile: str) -> None:
    """Answer all prompts greedily in one batch, then each in a batch of its own; send the share of texts that differ."""
    from engine.inference.engine import build_model

    spec = _teacher_spec(profile)
    engine = build_model(spec.client.model, spec.client.pool, folder=spec.client.weights)
    requests = _greedy_requests(spec, prompts)

    def texts(batch: Sequence[Request]) -> list[str]:
        engine.reset_prefix_cache()
        return [completion.text for completion in engine.complete(batch, spec.section.sampling)]

    pipe.send(0.0)
    while pipe.recv() is not None:
        alone = [texts([request])[0] for request in requests]
        pipe.send(round(sum(map(ne, texts(requests), alone)) / len(requests), 3))


def _greedy_requests(spec: Any, prompts: int) -> list[Request]:
    """Return the teacher's request of each prompt, at temperature 0."""
    from engine.inference.few_shot import FewShotSelector
    from engine.inference.structured import decoding_schema

    shots, output = FewShotSelector(spec.section.shots), spec.specialist.task_units[0].output
    return [
        Request(
            chat=instruct(row["messages"], system=spec.section.system, shots=shots(row["text"])),
            seed=0,
            temperature=0.0,
            json_schema=decoding_schema(output, row["text"]),
        )
        for row in _rows(prompts)
    ]


def _job(prompts: int, mode: str, profile: str) -> Throughput:
    """Run the whole job over the same prompts, with teachers.mode `mode`."""
    changes = [*SAMPLED, *(smoke.judged() if mode == "judged" else smoke.UNJUDGED), f"teachers.mode={mode}"]
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        run = Path(name, "run")
        work = workspace.create(str(smoke.CONTRACT), str(run), profile=profile, changes=changes)
        put_artifact(work, "prompts", [from_rows(_rows(prompts), PROMPT)], PROMPT, label="prompts")
        usage = run_candidates(smoke.CONTRACT, run, profile=profile, changes=changes)
        candidates = load_artifact(Folder(str(run / "candidates")))
        assert candidates
        first = min(run.glob("ledger/answers/**/*.parquet"), key=lambda path: path.stat().st_mtime)  # batch of the ledger
        first_tokens = sum(pq.read_table(first, columns=["tokens_out"])["tokens_out"].to_pylist())
        seconds = candidates.record.started + candidates.record.seconds - first.stat().st_mtime
        tokens = candidates.record.metrics["tokens_out"]
    steady = (tokens - first_tokens) / seconds
    return Throughput(count=tokens, per_second=round(steady, 1), with_start=round(tokens / usage.seconds, 1))


def _teacher_spec(profile: str) -> Any:
    from engine.inference.client import ClientSpec
    from engine.teachers.teacher import TeacherSpec
    from jobs.steps.trained import asked

    contract, folder = smoke.contract(SAMPLED), Folder(tempfile.mkdtemp())
    section, pool = contract.teachers.models[0], load_profile(Path(profile)).teacher
    ledger, markers, budget = (folder / part for part in ("answers", "markers", "budget"))
    model = asked(section, contract.specialist, "").model
    client = ClientSpec(model, pool, smoke.weights(model), ledger, markers, budget)
    return TeacherSpec(section, contract.specialist, client)


def _rows(prompts: int) -> list[Row]:
    """Return the first mails of the contract's source as rows of PROMPT."""
    same = {"task_unit": smoke.contract(()).specialist.task_units[0].name, "layer": "core", "redacted": [], "source": "train.jsonl"}
    return [
        same | {"prompt_id": content_id(text), "text": text, "messages": [{"role": "user", "content": text}]}
        for text in smoke.mails(prompts)
    ]
