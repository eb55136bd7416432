"""The teacher against bare `vllm.LLM`, on the same prompts, sampling and engine arguments.

`rayleigh bench generate --json` prints

    prompts, samples    what is asked in a round
    bare                `vllm.LLM` as its documentation has it: all chats in one call
    stage               the teacher op with its ledger, in the batches of the profile
    job                 `rayleigh run --until candidates` with that teacher and the checks
    judged              the same with the judge on the same cores
        tokens              that it answered; of `bare` and `stage` in each round
        tokens_per_second   without start-up: median of the rounds; of a job from its first batch on record to its end
        with_start          tokens per second with the loading of the model; of a job with the start of its processes
        rounds              tokens per second of each; `bare` and `stage` take turns, each in a process of its own
    ratio               stage: median over the rounds of stage by bare of the same round; job, judged: theirs by that of `bare`
"""

import json
import statistics
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from engine.contract import load_contract, load_profile
from engine.rows import PROMPT, content_id, from_rows
from engine.storage.artifact import load_artifact
from engine.storage.shards import Folder
from jobs import workspace
from jobs.bench.turns import Ask, Worker, serve, told
from jobs.bench.watch import ROOT, put_prompts, run_candidates
from jobs.commands.run import set_environment

CONTRACT = ROOT / "jobs/contracts/smoke.yaml"
SAMPLED = ["teachers.models.0.sampling.greedy_first=false"]  # all are sampled, so that both sides do the same
MODES = {"job": "direct", "judged": "judged"}


def bench(prompts: int, rounds: int, *, profile: str) -> dict[str, Any]:
    """Return the object that the module describes."""
    where = str(workspace.profile_path(profile))
    set_environment(load_profile(Path(where)))
    workers = {side.__name__: Worker(side, prompts, where, pool="teacher") for side in (bare, stage)}
    turns = [{name: worker.round(number) for name, worker in workers.items()} for number in range(1, rounds + 1)]
    sides = {name: told(worker, [turn[name] for turn in turns], what="tokens") for name, worker in workers.items()}
    jobs = {name: _job(prompts, mode, where) for name, mode in MODES.items()}
    ratio = {name: found["tokens_per_second"] / sides["bare"]["tokens_per_second"] for name, found in jobs.items()}
    ratio["stage"] = statistics.median(turn["stage"]["speed"] / turn["bare"]["speed"] for turn in turns)
    samples = _order().teachers.models[0].sampling.n
    shares = {name: round(value, 3) for name, value in ratio.items()}
    return {"prompts": prompts, "samples": samples, **sides, **jobs, "ratio": shares}


def bare(pipe: Connection, prompts: int, profile: str) -> None:
    """`vllm.LLM` as its documentation has it: chats in, one `chat`."""
    started = time.perf_counter()
    spec, rows = _spec(profile), _rows(prompts)
    from engine.inference.engine import instruct
    from engine.inference.few_shot import FewShotSelector
    from engine.inference.structured import decoding_schema
    from engine.inference.vllm_engine import VllmEngine

    engine = VllmEngine(
        spec.client.model, spec.client.pool, spec.client.weights
    )  # the same arguments; from here on its `llm` alone
    sampling, shots = spec.section.sampling, FewShotSelector(spec.section.shots)
    output = spec.specialist.task_units[0].output
    asked = [row for row in rows for _ in range(sampling.n)]
    chats = [instruct(row["messages"], system=spec.section.system, shots=shots(row["text"])) for row in asked]
    schemas = [decoding_schema(output, row["text"]) for row in asked]

    def prepare(number: int) -> Ask:
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
        engine.reset_prefix_cache()  # each round begins with an empty prefix cache, as each batch of the stage does

        def ask(count: int) -> int:
            most = count * sampling.n
            return sum(len(one.outputs[0].token_ids) for one in llm.chat(chats[:most], params[:most], use_tqdm=False))

        return ask

    serve(pipe, prepare, prompts, started)


def stage(pipe: Connection, prompts: int, profile: str) -> None:
    """The teacher op with its ledger, as the streaming plan calls it."""
    started = time.perf_counter()
    from engine.inference.engine import build_model
    from engine.teachers.teacher import Teacher

    spec, rows = _spec(profile), _rows(prompts)
    loaded = build_model(spec.client.model, spec.client.pool, folder=spec.client.weights)

    def prepare(number: int) -> Ask:
        sampling = spec.section.sampling.model_copy(update={"seed": number})  # other seeds: nothing is in the ledger yet
        teacher = Teacher(replace(spec, section=spec.section.model_copy(update={"sampling": sampling})))
        teacher.client.engine = loaded
        return lambda count: sum(teacher(from_rows(rows[:count], PROMPT))["tokens_out"].to_pylist())

    serve(pipe, prepare, prompts, started)


def _job(prompts: int, mode: str, profile: str) -> dict[str, Any]:
    """One run of the whole job over the same prompts."""
    changes = [*SAMPLED, f"teachers.mode={mode}"]
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        run = Path(name, "run")
        work = workspace.create(str(CONTRACT), str(run), profile=profile, changes=changes)
        put_prompts(work, [from_rows(_rows(prompts), PROMPT)])
        used = run_candidates(CONTRACT, run, profile=profile, changes=changes)
        made = load_artifact(Folder(str(run / "candidates")))
        assert made
        first, ended = _first_batch(run), made.record["started"] + made.record["seconds"]
        tokens = made.record["metrics"]["tokens_out"]
        steady = (tokens - first["tokens"]) / (ended - first["at"])
    return {"tokens": tokens, "tokens_per_second": round(steady, 1), "with_start": round(tokens / used.seconds, 1)}


def _first_batch(run: Path) -> dict[str, float]:
    """When the first batch was on record, and its tokens."""
    first = min(run.glob("ledger/answers/**/*.parquet"), key=lambda path: path.stat().st_mtime)
    return {"at": first.stat().st_mtime, "tokens": sum(pq.read_table(first, columns=["tokens_out"])["tokens_out"].to_pylist())}


def _order() -> Any:
    return load_contract(CONTRACT, SAMPLED).contract


def _spec(profile: str) -> Any:
    from engine.inference.client import ClientSpec
    from engine.inference.locate import locate
    from engine.teachers.teacher import TeacherSpec

    order, folder = _order(), Folder(tempfile.mkdtemp())
    section = order.teachers.models[0]
    weights = locate(section.model.path, root=str(CONTRACT.parent), home=workspace.models_home())
    pool = load_profile(Path(profile)).teacher
    client = ClientSpec(section.model, pool, weights, folder / "answers", folder / "markers", folder / "budget")
    return TeacherSpec(section, order.specialist, client)


def _rows(prompts: int) -> list[dict[str, Any]]:
    """The first mails of the contract's source, as rows of PROMPT."""
    order = _order()
    lines = (CONTRACT.parent / order.prompts.sources[0].path).read_text().splitlines()[:prompts]
    same = {"task_unit": order.specialist.task_units[0].name, "layer": "core", "redacted": [], "source": "train.jsonl"}
    texts = [json.loads(line)["input"] for line in lines]
    return [same | {"prompt_id": content_id(t), "text": t, "messages": [{"role": "user", "content": t}]} for t in texts]


def as_text(found: dict[str, Any]) -> str:
    """Return the object in a few lines."""
    sides = [f"{name}: {found[name]['tokens_per_second']} tokens/s" for name in ("bare", "stage", *MODES)]
    return "\n".join([*sides, f"ratio to bare vLLM: {found['ratio']}"])
