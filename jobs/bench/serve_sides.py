"""The sides of `rayleigh bench serve`: vLLM's own server and its requests, an engine that decodes both ways, a challenger."""

import json
import os
import sys
import time
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from engine.contract.models import Model, VllmModel
from engine.contract.profile import Pool, load_profile
from engine.distributed.environment import environment
from engine.evaluation.evaluator import greedy, within_positions
from engine.evaluation.size import model_size
from engine.inference.decodable import decodable
from engine.inference.engine import Request, build_model
from engine.inference.vllm_engine import engine_arguments
from engine.prompts.redact import redact_text
from engine.serving.deployment import MANIFEST, MODEL, Deployment, fingerprint_of
from engine.serving.router import Asked
from engine.serving.service import request_of
from engine.storage.folder import Folder
from jobs.bench import smoke, turns
from jobs.bench.load import Call, Server, free_port
from jobs.bench.overload import served
from jobs.bench.turns import RunTasks

TEXTS = 390  # mails of the shipped contract: rounds seldom meet the same one again
PEER = "peer"


def start_peer(deployment: Deployment, pool: Pool, log: Path) -> Server:
    """Start vLLM's own server with the weights, the engine arguments and the threads of `rayleigh serve`.

    Its engine has a process of its own, as ours has, so what keeps vLLM from starting another one is not set. It has the system's
    allocator, as when it is started by itself: that ours preloads another one is a part of ours.
    """
    folder = Path(deployment.folder) / MODEL
    model = cast(VllmModel, within_positions(cast(Model, deployment.student().model), model_size(folder)))
    arguments = {**engine_arguments(model, pool, folder), "served_model_name": PEER, "generation_config": "vllm"}
    del arguments["worker_extension_cls"]  # for the capture of distributions
    port = free_port()
    words = ["--host", "127.0.0.1", "--port", str(port), "--disable-log-stats", "--uvicorn-log-level", "warning"]
    variables = {**os.environ, **environment(pool)}
    variables.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    variables.pop("LD_PRELOAD", None)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *flags(arguments)]
    return Server(command, log, variables, url=f"http://127.0.0.1:{port}")


def flags(arguments: dict[str, Any]) -> list[str]:
    """Return arguments of `vllm.LLM` as options of vLLM's server."""
    words = list[str]()
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return words


def peer_call(deployment: Deployment, text: str) -> Call:
    """Return the request to vLLM's server for which it decodes as the release does: the client brings what the release knows."""
    request, target = _request(deployment, text), deployment.student()
    body = {"model": PEER, "messages": request.chat, "temperature": 0, "seed": request.seed, "max_tokens": target.max_tokens}
    body |= {"skip_special_tokens": not request.keep_special_tokens}
    if request.json_schema is not None:
        body["structured_outputs"] = {"json": decodable(request.json_schema).schema}
    return Call.of("/v1/chat/completions", body)


def _request(deployment: Deployment, text: str) -> Request:
    target, plain = deployment.student(), redact_text(text, deployment.redact, set())
    unit = next(iter(target.units.values()))
    return request_of(target, Asked(unit, [{"role": "user", "content": plain}], plain))


def decode(release: str, pipe: Connection, prompts: int, profile: str) -> None:
    """Decode with spans in rounds of odd numbers, without in those of even numbers."""
    started = time.perf_counter()
    deployment, _ = served(release, profile)
    target, folder = deployment.student(), Path(deployment.folder) / MODEL
    pool = load_profile(Path(profile)).evaluator_of(target.name)
    engine = build_model(within_positions(cast(Model, target.model), model_size(folder)), pool, folder=folder)
    requests = [_request(deployment, text) for text in islice(cycle(smoke.mails(TEXTS)), max(prompts, turns.WARM_UP))]
    plain = [request._replace(json_schema=None) for request in requests]

    def prepare(number: int) -> RunTasks:
        engine.reset_prefix_cache()
        chosen = requests if number % 2 else plain
        return lambda count: sum(each.tokens_out for each in engine.complete(chosen[:count], greedy(target.max_tokens)))

    turns.serve(pipe, prepare, prompts, started)


def challenger_of(deployment: Deployment, target: Path) -> Path:
    """Copy the release under another fingerprint: its answers may be a token longer. It takes as much work as the champion."""
    source = Folder(deployment.folder)
    for name in source.files():
        Folder(str(target)).write(name, source.read(name))
    content = deployment.manifest.model_dump(mode="json")
    content["student"]["max_tokens"] += 1
    content["fingerprint"] = fingerprint_of(content)
    (target / MANIFEST).write_text(json.dumps(content))
    return target
