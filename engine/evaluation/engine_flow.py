"""The engine of an evaluated model: an actor of its own, with what it holds of the cluster, and why it failed."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import ray
from ray import ObjectRef
from ray.exceptions import RayActorError, RayError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from engine.contract.profile import Pool
from engine.distributed import ray_options, session
from engine.distributed.capacity import Wanted, of_pool
from engine.distributed.environment import importing
from engine.distributed.placement import place
from engine.errors import ModelError, StoreUnreachable
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, Evaluated, Evaluator, failed
from engine.inference.engine import LIBRARIES

PATIENCE = 60.0  # seconds without an engine, after which it is looked whether a node has room for it
SAID = re.compile(r"^engine\.errors\.(\w+): (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)  # in a worker's traceback
Progress = Callable[[str], None]


class Died(str):
    """Why a model could not be evaluated: its actor died, perhaps with its node."""


class EngineActor(NamedTuple):
    """An actor with the engine of a model."""

    actor: Any
    """Handle of an `Evaluator`, whose methods Ray makes at run time."""
    group: PlacementGroup | None
    """Of the engine's workers."""
    want: Wanted
    """What it takes of the cluster."""

    def stop(self) -> None:
        """End the actor and free what it holds."""
        ray.kill(self.actor)
        if self.group:
            remove_placement_group(self.group)


def start(target: EvalTarget, pool: Pool, ledger: EvalLedger | None) -> EngineActor:
    """Start the engine of `target` in a place of `pool`, without waiting for it; with `ledger` its answers are kept."""
    options, group = ray_options.actor(pool)
    options["runtime_env"]["env_vars"] |= importing(LIBRARIES.get(target.model.type, ()))
    want = of_pool("reports", target.name, pool, "evaluator", workers=1)
    return EngineActor(ray.remote(Evaluator).options(**options).remote(target, pool, ledger), group, want)


def load(engine: EngineActor, progress: Progress, target: EvalTarget) -> str:
    """Wait until an engine is loaded; return why it failed, "" if it did not. It is told if no node that runs has room for it, as
    when the one that it needs was lost."""
    ready = engine.actor.ready.remote()
    while not ray.wait([ready], timeout=PATIENCE)[0]:
        [placement] = place([engine.want], session.running_groups())
        if placement.state != "fits":
            progress(f"{placement.who} waits: {placement.note}")
    return error_of(ready, target)


def error_of(done: ObjectRef[Any], target: EvalTarget) -> str:
    """Wait for what is `done` with a model; return why it failed, "" if it did not."""
    try:
        ray.get(done)
    except RayError as error:
        return _reason(error, target)
    return ""


def evaluated_of(answer: ObjectRef[Evaluated], rows: int, target: EvalTarget) -> Evaluated:
    """Wait for the evaluation of a model on so many rows; all of its answers end as `error` if it failed."""
    try:
        return ray.get(answer)
    except RayError as error:
        return failed(rows, _reason(error, target))


def _reason(error: RayError, target: EvalTarget) -> str:
    """Return the last line of the error: the message, without Ray's traceback and the name of our exception.

    Raises:
        StoreUnreachable: it says that a store cannot be reached. Ray keeps the text of an actor that fails to load, not the cause.
        ModelError: it says what is wrong with a server. A report that counted its answers as wrong would be finished and kept.
    """
    said = dict(SAID.findall(str(error)))
    if "StoreUnreachable" in said:
        raise StoreUnreachable(said["StoreUnreachable"].strip()) from None
    if target.model.type == "endpoint" and "ModelError" in said:
        raise ModelError(said["ModelError"].strip()) from None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"^engine\.errors\.\w+: ", "", lines[-1])[:500] if lines else type(error).__name__
    return Died(text) if isinstance(error, RayActorError) else text
