"""`rayleigh bench capture`: the capture of the teacher's distribution against bare vLLM, on the same prompts and targets.

One engine in one process takes turns: bare scoring as vLLM offers it, a plain prefill that scores nothing, and the capture with its
ledger, without and with the mask of the answer. `--json` prints a `CaptureBench`.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.capture.capturer import JOINED, Capturer, CaptureSpec
from engine.capture.summary import summary
from engine.contract.capture import Capture
from engine.contract.models import VllmModel
from engine.contract.profile import load_profile
from engine.inference.client import ClientSpec
from engine.records.base import Record
from engine.rows import Row, content_id
from engine.storage.folder import Folder
from engine.storage.shards import parquet_bytes
from jobs import places
from jobs.bench import smoke, turns
from jobs.bench.turns import WARM_UP, Round
from jobs.terminal.environment import set_environment

K = 16
WAYS = ("scored", "prefill", "capture", "masked")
SIZES: dict[str, dict[str, Any]] = {
    "capture": {"k": K, "constraint": "none"},
    "masked": {"k": K},
    "adaptive": {"mass": 0.999, "most": 64, "constraint": "none"},
}


class CaptureBench(Record):
    """Seconds of four ways to read the same prompts with the same targets."""

    examples: int
    """Examples of a round."""
    target_tokens: int
    """Their target tokens, with the ends of the turns."""
    rounds: int
    """Rounds of each way."""
    seconds: dict[str, float]
    """Median over the rounds. `scored`: `vllm.LLM.generate` with `prompt_logprobs` 16; `prefill`: the same without; `capture`: the
    op with its ledger, `masked`: the same with the mask of the answer."""
    of_scored: dict[str, float]
    """Way -> its seconds divided by those of `scored` in the same round; the median."""
    of_prefill: dict[str, float]
    """The same, by those of `prefill`."""
    bytes_per_token: dict[str, float]
    """Way -> bytes on disk of a target token at k = 16; `adaptive`: at a mass of 0.999 with at most 64 entries."""
    mean_k: dict[str, float]
    """Way -> stored entries of a token."""


def bench(examples: int, rounds: int, *, profile: str) -> CaptureBench:
    """Measure `rounds` turns of each way on `examples` examples."""
    where = str(places.profile_path(profile))
    set_environment(load_profile(Path(where)))
    worker = turns.Worker(side, examples, where, pool="teacher")
    measured = [{way: worker.round(1 + number * len(WAYS) + at) for at, way in enumerate(WAYS)} for number in range(rounds)]
    sizes, entries = worker.round(0)
    worker.end()
    return CaptureBench(
        examples=examples,
        target_tokens=measured[0]["capture"].count,
        rounds=rounds,
        seconds={way: round(statistics.median(each[way].seconds for each in measured), 2) for way in WAYS},
        of_scored=_ratios(measured, "scored"),
        of_prefill=_ratios(measured, "prefill"),
        bytes_per_token=sizes,
        mean_k=entries,
    )


def _ratios(measured: list[dict[str, Round]], base: str) -> dict[str, float]:
    return {way: round(statistics.median(each[way].seconds / each[base].seconds for each in measured), 3) for way in WAYS}


def side(pipe: Connection, examples: int, profile: str) -> None:
    """Serve the rounds: round 0 sends sizes, another one is measured in the way that its number gives."""
    started = time.perf_counter()
    from engine.inference.engine import build_model

    contract, folder = smoke.contract(()), Folder(tempfile.mkdtemp(prefix="rayleigh-bench-"))
    teacher, pool = contract.teachers.models[0], load_profile(Path(profile)).teacher
    model = teacher.model
    assert isinstance(model, VllmModel)
    weights = smoke.weights(model)
    engine: Any = build_model(model, pool, folder=weights)

    def capturer(number: int, **section: Any) -> Capturer:
        ledger, markers, budget = (folder / f"{number}-{part}" for part in ("capture", "markers", "budget"))
        client = ClientSpec(model, pool, weights, ledger, markers, budget)
        made = Capturer(CaptureSpec(Capture.model_validate(section), teacher, contract.specialist, client))
        made.client.engine = engine
        return made

    def run(number: int, rows: list[Row]) -> int:
        way = WAYS[(number - 1) % len(WAYS)]
        if way in ("capture", "masked"):
            constraint = "answer" if way == "masked" else "none"
            return sum(capturer(number, k=K, constraint=constraint)(pa.Table.from_pylist(rows, JOINED))["tokens"].to_pylist())
        return _bare(engine, capturer(number), rows, K if way == "scored" else None, pool.batch)

    rows = _rows(examples, contract.specialist.task_units[0].name, contract.specialist.task_units[0].instruction)
    for number in range(1, len(WAYS) + 1):
        run(-len(WAYS) + number, rows[:WARM_UP])
    pipe.send(time.perf_counter() - started)
    while (number := pipe.recv()) is not None:
        if number == 0:
            pipe.send(_sizes(capturer, rows))
            continue
        began = time.perf_counter()
        count = run(number, rows)
        pipe.send(Round(count, time.perf_counter() - began))


def _bare(engine: Any, capturer: Capturer, rows: list[Row], logprobs: int | None, batch: int) -> int:
    """Read prompts and targets with `vllm.LLM.generate`, in the batches of the capture; return the target tokens."""
    from engine.inference.chat_template import tokenize_chats
    from engine.inference.turn_marks import encode_text

    params = engine.vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=logprobs)
    count = 0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        targets = [capturer.target(row) for row in part]
        heads = tokenize_chats(engine.tokenizer, [target.chat for target in targets])
        tails = [encode_text(engine.tokenizer, target.text) for target in targets]
        engine.reset_prefix_cache()
        prompts = [{"prompt_token_ids": [*head, *tail]} for head, tail in zip(heads, tails, strict=True)]
        engine.llm.generate(prompts, params, use_tqdm=False)
        count += sum(len(tail) + 1 for tail in tails)
    return count


def _sizes(capturer: Callable[..., Capturer], rows: list[Row]) -> tuple[dict[str, float], dict[str, float]]:
    """Return way -> bytes on disk, and entries, of a target token."""
    sizes, entries = {}, {}
    table = pa.Table.from_pylist(rows, JOINED)
    for at, (name, section) in enumerate(SIZES.items()):
        found = capturer(-100 - at, **section)(table)
        sums = summary(found)
        sizes[name] = round(len(parquet_bytes(found)) / sums["tokens"], 2)
        entries[name] = round(sums["entries"] / sums["tokens"], 2)
    return sizes, entries


def _rows(count: int, unit: str, instruction: str) -> list[Row]:
    """Return the first labelled mails of the contract as JOINED rows."""
    path = smoke.CONTRACT.parent / smoke.contract(()).prompts.holdout.path
    rows = []
    for line in path.read_text().splitlines()[:count]:
        mail = json.loads(line)
        asked, name = [{"role": "user", "content": mail["input"]}], content_id(mail["input"])
        same = {"example_id": name, "answer_id": name, "prompt_id": name, "task_unit": unit, "text": mail["input"], "asked": asked}
        messages = [{"role": "system", "content": instruction}, *asked]
        rows.append({**same, "messages": messages, "target": mail["reference"], "teacher": "smol", "reasoning": ""})
    return sorted(rows, key=lambda row: row["example_id"])


def as_text(result: CaptureBench) -> str:
    """Return a line a way."""
    lines = [
        f"{way}: {result.seconds[way]} s, {result.of_scored[way]} of scored, {result.of_prefill[way]} of prefill" for way in WAYS
    ]
    sizes = [f"{name}: {size} B and {result.mean_k[name]} entries a target token" for name, size in result.bytes_per_token.items()]
    return "\n".join([f"{result.examples} examples, {result.target_tokens} target tokens", *lines, *sizes])
