"""Answers of an evaluated model that are kept in a ledger, so that a run that was killed asks for none of them again."""

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow as pa

from engine.contract.models import Model, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError, RayleighError
from engine.evaluation.machine import machine
from engine.inference.client import CRASHED, Batch, ClientSpec, ModelClient, completed
from engine.inference.crash_isolation import MARKERS
from engine.inference.decodable import decoding_identity
from engine.inference.engine import Completion, Engine, Request
from engine.rows import TRAJECTORY, Row, content_id
from engine.storage.folder import Folder

PAID = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("ask_id", pa.string()),  # hash of prompt, request, model identity, decoding, and whether it was sent alone
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens_in", pa.int32()),
        ("tokens_out", pa.int32()),
        ("logprob", pa.float64()),
        ("seconds", pa.float64()),  # wall time of its batch divided by the batch's answers
        ("error", pa.string()),
        ("trajectory", TRAJECTORY),
        ("reasoning", pa.string()),
        ("machine", pa.string()),  # that took `seconds`; null in files of earlier versions
    ]
)
COMPLETION = PAID.names[2:-1]


@dataclass(frozen=True)
class EvalLedger:
    """Where answers to the holdout are kept."""

    rows: Folder
    """Perhaps of other runs, too."""
    own: Folder
    """This run's own: in-flight markers and token usage."""


class Asked(NamedTuple):
    """A request for a holdout prompt."""

    prompt_id: str
    request: Request


class _WarmEngine:
    """An engine that keeps its prefix cache between batches, as a server does: the latency is that of a model in use."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.identity = engine, engine.identity

    def reset_prefix_cache(self) -> None:
        """Keep the cache."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return one completion per request. Any failure ends the evaluation of this model, and its process with it."""
        try:
            return self.engine.complete(requests, sampling)
        except RayleighError:
            raise
        except Exception as error:
            raise ModelError(f"{type(error).__name__}: {error}") from error


class LedgerAnswers:
    """Answers requests with a loaded engine, each once."""

    def __init__(self, engine: Engine, model: Model, pool: Pool, weights: Path | None, ledger: EvalLedger) -> None:
        markers, usage = ledger.own / MARKERS / "evaluation", ledger.own / "evaluation_tokens"
        self.engine, self.model = engine, model
        self.elsewhere: set[str] = set()
        """Keys of the answers that another machine has timed; those of a server have no machine of ours."""
        self.client: ModelClient[Asked] = ModelClient(
            ClientSpec(model, pool, weights, ledger.rows, markers, usage),
            PAID,
            prompt_id=lambda asked: asked.prompt_id,
            crashed=lambda asked: _row(CRASHED, 0.0),
        )
        self.client.engine = cast(Engine, _WarmEngine(engine))

    def block(self, asked: Sequence[Asked]) -> AbstractContextManager[None]:
        """Hold the ledger's rows of these requests in memory; the other methods are called inside."""
        return self.client.block(each.prompt_id for each in asked)

    def reset_prefix_cache(self) -> None:
        """Let the engine forget what prompts have in common with those that it has answered."""
        self.engine.reset_prefix_cache()

    def has(self, keys: Sequence[str]) -> bool:
        """Return whether the ledger holds all of `keys`."""
        return self.client.find(keys).keys() >= set(keys)

    def keys(self, asked: Sequence[Asked], sampling: Sampling, *, alone: Sequence[bool], tools: str) -> list[str]:
        """Return the ledger's key of each request; `tools` identifies the toolset, "" = none."""
        limits = [sampling.top_p, sampling.max_tokens]
        keys = []
        for (prompt_id, request), is_alone in zip(asked, alone, strict=True):
            # Named here one by one: a later field of Request or Sampling must not change the keys of what is paid for.
            asks = [request.chat, request.seed, request.temperature, request.json_schema, request.keep_special_tokens]
            parts = json.dumps([*asks, request.max_calls, *limits, is_alone]), tools
            keys.append(content_id(prompt_id, self.client.identity, *parts, *decoding_identity(self.model, request.json_schema)))
        return keys

    def __call__(self, asked: dict[str, Asked], sampling: Sampling) -> dict[str, Completion]:
        """Return key -> completion of each of `asked`, one batch; those that the ledger lacks are sent together."""

        def complete(engine: Engine, requests: Sequence[Asked]) -> Batch:
            started = time.perf_counter()
            completions = engine.complete([each.request for each in requests], sampling)
            seconds = (time.perf_counter() - started) / len(requests)
            return completed(completions, [_row(completion, seconds) for completion in completions])

        rows = self.client.answer(asked, complete, capped=False)
        if self.model.type != "endpoint":
            self.elsewhere.update(key for key, row in rows.items() if row["machine"] not in (None, machine()))
        return {key: _completion(rows[key]) for key in asked}


def _row(completion: Completion, seconds: float) -> Row:
    columns = {name: getattr(completion, name) for name in COMPLETION}
    return {**columns, "seconds": seconds, "trajectory": list(completion.trajectory), "machine": machine()}


def _completion(row: Row) -> Completion:
    return Completion(**{name: row[name] for name in COMPLETION})
