"""Ray Train around the loop: one trainer per student and seed, several at the same time. A run resumes by its name."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer, get_device

from engine.contract.profile import Pool
from engine.contract.students import Student
from engine.distributed import ray_options, session
from engine.distributed.capacity import of_pool
from engine.distributed.environment import importing
from engine.distributed.placement import Group, fits_together
from engine.errors import ModelError
from engine.storage.folder import Folder
from engine.students.training import loop, policy_round, zero
from engine.students.training.checkpoint_state import FILE, Progress
from engine.students.training.progress_file import ProgressFile, ProgressReporter
from engine.students.training.state import TrainSpec, WorkerContext

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
LIBRARIES = ("engine.students.training.launch", "transformers.modeling_utils", "deepspeed")  # that take a worker long to import
RETRIES = 2  # of a worker group that died, without a step further between


@dataclass(frozen=True)
class CheckpointLocation:
    """The folder of a run's checkpoints: the same name finds them again after a crash."""

    storage: str  # absolute path or URL, reachable from every node
    name: str  # content hash of data and recipe


@dataclass(frozen=True)
class Planned:
    """A training, and where its checkpoints are."""

    spec: TrainSpec
    location: CheckpointLocation
    callbacks: Sequence[UserCallback] = ()
    """Get the numbers of every checkpoint, see `_measured`."""


@contextmanager
def trained(plans: Sequence[Planned], pool: Pool, progress: Callable[[str], None]) -> Iterator[list[Path]]:
    """Train `plans` on `pool` and yield the folder of the last checkpoint of each: the best weights and the progress.

    As many are trained at the same time as the cluster has room for, the others in turn. An unfinished run of the same name is
    resumed; of a finished one the last checkpoint is read.

    Raises:
        ModelError: a training failed on every attempt; the others have ended.
    """
    with ExitStack() as stack:
        yield [Path(stack.enter_context(checkpoint.as_directory())) for checkpoint in _checkpoints(plans, pool, progress)]


def _checkpoints(plans: Sequence[Planned], pool: Pool, progress: Callable[[str], None]) -> list[Checkpoint]:
    """Return the last checkpoint of each training, after the end of all."""
    room, begun = at_once(plans[0].spec.student, pool, session.running_groups(), len(plans)), list[Future[Checkpoint]]()
    files = [ProgressFile(plan.location.storage, plan.location.name) for plan in plans]
    reports = [ProgressReporter(plan.spec.title, progress) for plan in plans]
    while len(begun) < len(plans) or not all(training.done() for training in begun):
        active = [training for training in begun if not training.done()]
        if len(begun) < len(plans) and len(active) < room:
            begun.append(_begin(plans[len(begun)], pool))
            continue
        wait(active, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for training, file, report in zip(begun, files, reports, strict=False):
            if not training.done():
                report(file.read())
        if not ray.is_initialized():  # another call of Ray Train would start a new cluster
            names = ", ".join(plan.spec.title for plan in plans)
            raise ModelError(f"student {names}: Ray was stopped. Run again: it goes on from its last checkpoint.")
    return [_result(training, plan) for training, plan in zip(begun, plans, strict=True)]


def _result(training: Future[Checkpoint], plan: Planned) -> Checkpoint:
    try:
        checkpoint = training.result()
    except (ray.exceptions.RayError, TrainingFailedError) as error:
        raise ModelError(f"student {plan.spec.title}: training failed: {_reason(error)}") from error
    sweep(plan.location, keep=Path(checkpoint.path).name)
    return checkpoint


def at_once(student: Student, pool: Pool, groups: Sequence[Group], most: int) -> int:
    """Return how many trainings of `student` the nodes that run, `groups`, have room for together: at least one, at most `most`.

    The nodes count as empty: what other jobs hold is not subtracted. A training that finds no room waits: after each
    RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S Ray Train gives its request up and makes it anew, without end
    (`controller_failure_limit` of its FailureConfig is -1).
    """
    want, count = of_pool("", student.name, pool, "", workers=student.workers), 1
    while count < most and fits_together([want] * (count + 1), groups):
        count += 1
    return count


def sweep(location: CheckpointLocation, *, keep: str) -> None:
    """Remove checkpoints that Ray Train does not know, because a crash came before it had listed them."""
    folder = Folder(f"{location.storage}/{location.name}")
    for path in folder.with_retries("", lambda: folder.fs.ls(folder.path, detail=False)):
        name = path.rstrip("/").rpartition("/")[2]
        if name.startswith("checkpoint_2") and name != keep:  # a date follows
            folder.remove(name)


def storage(location: CheckpointLocation) -> tuple[str, FileSystem | None]:
    """Return `storage_path` and `storage_filesystem` of Ray Train's RunConfig.

    A URL is opened by fsspec, with the same endpoint and keys as everything else of a run; by itself Ray Train would open it by
    pyarrow, which is configured in another way.
    """
    if "://" not in location.storage:
        return location.storage, None
    folder = Folder(location.storage)
    return folder.path, PyFileSystem(FSSpecHandler(folder.fs))


def scaling(student: Student, pool: Pool) -> dict[str, Any]:
    """Return the arguments of Ray Train's ScalingConfig."""
    placed = {"accelerator_type": pool.accelerator, "label_selector": dict(pool.labels) or None}
    chosen = {key: value for key, value in placed.items() if value}
    return {"num_workers": student.workers, "use_gpu": bool(pool.gpus), "resources_per_worker": resources(pool), **chosen}


def resources(pool: Pool) -> dict[str, float]:
    """Return what one worker takes of a node."""
    return {"CPU": pool.cpus, **({"GPU": pool.gpus} if pool.gpus else {}), **pool.resources}


def accelerator(pool: Pool) -> str:
    """Return the key of zero.BACKENDS for a worker of `pool`."""
    return "gpu" if pool.gpus else "cpu"


def environment(pool: Pool) -> dict[str, str]:
    """Return the environment variables that a worker needs before it imports torch."""
    backend = zero.BACKENDS[accelerator(pool)]
    return {**ray_options.environment(pool), **backend.environment, **importing(LIBRARIES)}


def _begin(plan: Planned, pool: Pool) -> Future[Checkpoint]:
    """Start `_fit` in a daemon thread: in the main thread Ray Train would take over Ctrl-C."""
    training: Future[Checkpoint] = Future()

    def run() -> None:
        try:
            training.set_result(_fit(plan, pool))
        except BaseException as error:  # `result()` raises it in the waiting thread
            training.set_exception(error)

    threading.Thread(target=run, name=plan.spec.title, daemon=True).start()
    return training


def _fit(plan: Planned, pool: Pool) -> Checkpoint:
    """Train to the end. That workers are lost with their nodes ends it only if it gets no further in between."""
    file, reached, stuck = ProgressFile(plan.location.storage, plan.location.name), -1, 0
    while True:
        try:
            return _attempt(plan, pool)
        except (TrainingFailedError, ray.exceptions.RayActorError) as error:
            snapshot = file.read()
            step = snapshot.step if snapshot else -1
            # Ray Train has tried a lost group again by itself, but not one that was lost while it started.
            stuck = 0 if step > reached else stuck + (RETRIES if isinstance(error, WorkerGroupError) else 1)
            if stuck >= RETRIES or not _is_loss(error):
                raise
            reached = step
            log.warning("student %s: workers were lost at step %d, it goes on from its last checkpoint", plan.spec.title, step)


def _is_loss(error: Exception) -> bool:
    """Return whether a training failed because actors were lost, its workers or what leads them, not by a fault."""
    if isinstance(error, WorkerGroupError):
        return all(map(_is_loss, error.worker_failures.values()))
    failure = error.controller_failure if isinstance(error, ControllerError) else error
    failure = getattr(failure, "health_check_failure", failure)  # so Ray Train wraps what asking a worker raises
    return isinstance(failure, ray.exceptions.RayActorError)


def _attempt(plan: Planned, pool: Pool) -> Checkpoint:
    spec, location = plan.spec, plan.location
    path, filesystem = storage(location)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"spec": spec, "location": location},
        scaling_config=ScalingConfig(**scaling(spec.student, pool)),
        run_config=RunConfig(
            name=location.name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=RETRIES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": environment(pool)},
            callbacks=list(plan.callbacks) or None,
        ),
    )
    checkpoint = trainer.fit().checkpoint
    assert checkpoint is not None, "the loop always ends with a checkpoint"
    return checkpoint


def _work(config: dict[str, Any]) -> None:
    """Run the loop in one worker, from the last checkpoint if there is one."""
    spec, location = config["spec"], config["location"]
    context, last, storage = ray.train.get_context(), ray.train.get_checkpoint(), f"{location.storage}/{location.name}"
    rank, world = context.get_world_rank(), context.get_world_size()
    file = ProgressFile(location.storage, location.name)

    on_step = file.write if rank == 0 else lambda progress, steps: None
    with last.as_directory() if last else nullcontext() as folder:
        resume = Path(folder) if folder else None
        spec = spec if resume and zero.is_partitioned(resume) else spec.as_computed
        worker = WorkerContext(rank, world, get_device(), resume, _save_checkpoint, on_step, storage)
        (policy_round.run if spec.round else loop.run)(spec, worker)


def _save_checkpoint(folder: Path) -> None:
    ray.train.report(_measured(folder), checkpoint=Checkpoint.from_directory(str(folder)))


def _measured(folder: Path) -> dict[str, Any]:
    """Return the numbers of a checkpoint; {} for all workers but that of rank 0, which alone has them."""
    return Progress.read(folder).measured if (folder / FILE).exists() else {}


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
