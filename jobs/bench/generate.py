"""The teacher stage against bare `vllm.LLM` on the same prompts, sampling and engine arguments: `python -m jobs.bench.generate`.

Prints one JSON object: `pairs` (tokens per second of bare vLLM and of the stage, one pair a round, in turn), `ratio` (median of
stage over bare), `prompts`, `tokens` of a round. Loading is not counted; each side runs in a process of its own.
"""

import json
import statistics
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import typer

from engine.contract import load_contract, load_profile
from jobs.run import set_environment
from jobs.workspace import models_home

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "jobs/contracts/smoke.yaml"
PROFILE = ROOT / "cluster/profiles/laptop.yaml"


def bench(prompts: int = 96, rounds: int = 3) -> None:
    """Measure and print."""
    set_environment(load_profile(PROFILE))
    workers = {side: Worker(side, prompts) for side in (bare, stage)}
    pairs = [{worker.name: worker.round(number) for worker in workers.values()} for number in range(rounds + 1)][1:]
    for worker in workers.values():
        worker.end()
    ratio = statistics.median(pair["stage"]["speed"] / pair["bare"]["speed"] for pair in pairs)
    tokens = pairs[0]["bare"]["tokens"]
    speeds = [{side: round(found["speed"], 1) for side, found in pair.items()} for pair in pairs]
    typer.echo(json.dumps({"ratio": round(ratio, 3), "pairs": speeds, "prompts": prompts, "tokens": tokens}, indent=1))


class Worker:
    """One side in a process of its own, which answers a round at a time."""

    def __init__(self, side: Any, prompts: int) -> None:
        context = get_context("spawn")
        self.name = side.__name__
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=side, args=(other, prompts), daemon=True)
        self.process.start()
        self.pipe.recv()  # loaded; the sides load one after the other and then wait, so that one at a time is busy

    def round(self, number: int) -> dict[str, float]:
        """Run a round and return tokens, seconds and tokens per second. Round 0 warms up."""
        self.pipe.send(number)
        return self.pipe.recv()

    def end(self) -> None:
        """Let the process go."""
        self.pipe.send(None)
        self.process.join(30)


def bare(pipe: Connection, prompts: int) -> None:
    """`vllm.LLM` as its documentation has it: chats in, one `generate`."""
    desk, rows = _desk(prompts, Path(tempfile.mkdtemp()))
    from engine.models.base import instruct
    from engine.models.shots import ShotBook
    from engine.models.spans import decoding_schema
    from engine.models.vllm_model import VllmEngine

    assert desk.folder is not None
    engine = VllmEngine(desk.section.model, desk.pool, desk.folder)  # the same arguments; from here on its `llm` alone
    llm: Any = engine.llm
    sampling = desk.section.sampling
    shots = ShotBook(desk.section.shots)
    output = desk.specialist.task_units[0].output
    schemas = [decoding_schema(output, row["text"]) for row in rows for _ in range(sampling.n)]
    structured = [engine.vllm.sampling_params.StructuredOutputsParams(json=schema) for schema in schemas]

    def ask(number: int) -> int:
        asked = [instruct(row["messages"], system=desk.section.system, shots=shots(row["text"])) for row in rows]
        chats = [chat for chat in asked for _ in range(sampling.n)]
        params = [
            engine.vllm.SamplingParams(
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                seed=number * 10_000 + i,
                structured_outputs=structured[i],
            )
            for i in range(len(chats))
        ]
        outputs = llm.chat(chats, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    _serve(pipe, ask)


def stage(pipe: Connection, prompts: int) -> None:
    """The teacher op with its ledger, as the streaming plan calls it."""
    folder = Path(tempfile.mkdtemp())
    from engine.models.base import build_model
    from engine.rows import PROMPT, from_rows
    from engine.teachers.teacher import Teacher

    desk, rows = _desk(prompts, folder)
    loaded = build_model(desk.section.model, desk.pool, folder=desk.folder)

    def ask(number: int) -> int:
        sampling = desk.section.sampling.model_copy(update={"seed": number})  # other seeds: nothing is in the ledger yet
        section = desk.section.model_copy(update={"sampling": sampling})
        teacher = Teacher(desk.__class__(**{**desk.__dict__, "section": section}))
        teacher.engine = loaded
        return sum(teacher(from_rows(rows, PROMPT))["tokens_out"].to_pylist())

    _serve(pipe, ask)


def _serve(pipe: Connection, ask: Any) -> None:
    pipe.send("loaded")
    while (number := pipe.recv()) is not None:
        started = time.perf_counter()
        tokens = ask(number)
        seconds = time.perf_counter() - started
        pipe.send({"tokens": tokens, "seconds": seconds, "speed": tokens / seconds})


def _desk(prompts: int, folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    from engine.models.locate import locate
    from engine.rows import PROMPT, content_id
    from engine.shards import Folder
    from engine.teachers.teacher import Desk

    contract, root = load_contract(CONTRACT)
    section = contract.teachers.models[0]
    section = section.model_copy(update={"sampling": section.sampling.model_copy(update={"greedy_first": False})})
    assert section.model.type == "vllm"
    weights = locate(section.model.path, root=str(root), home=str(models_home()))
    lines = (root / contract.prompts.sources[0].path).read_text().splitlines()[:prompts]
    empty = {name: None for name in PROMPT.names} | {"task_unit": contract.specialist.task_units[0].name, "redacted": []}
    texts = [json.loads(line)["input"] for line in lines]
    rows = [empty | {"prompt_id": content_id(t), "text": t, "messages": [{"role": "user", "content": t}]} for t in texts]
    pool = load_profile(PROFILE).teacher
    return Desk(section, contract.specialist, pool, weights, Folder(str(folder)), prompts), rows


if __name__ == "__main__":
    typer.run(bench)
