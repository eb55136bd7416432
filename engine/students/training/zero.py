"""DeepSpeed, imported by this file only: ZeRO stages 0 to 3 (Rajbhandari et al., 2020) on GPUs or CPUs."""

import logging
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.contract.students import Student
from engine.errors import ModelError

TAG = "deepspeed"  # folder of a checkpoint of an earlier version: DeepSpeed's partitions, which only as many workers can read
STATE, SHARD_BYTES = "state", 2**30  # files of a checkpoint, and the size of each
STEP, WEIGHT, BUFFER, MOMENTS = "step", "weight", "buffer", ("exp_avg", "exp_avg_sq")
FLAT_PARTITIONS = ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat", "fp32_groups_flat_partition")
"""Attributes of DeepSpeed's optimizers of the stages 1 and 2, 3, and of bfloat16."""
BUCKET = 20_000_000  # elements; the default of 5e8 takes 2 GB of each worker


class Backend(NamedTuple):
    """Settings of one kind of worker; its environment must be set before it imports torch or DeepSpeed."""

    communication: str
    environment: dict[str, str]
    attention: str  # of transformers: on a CPU the backward pass of the fused kernel is slower than that of the plain one


BACKENDS = {
    "cpu": Backend("gloo", {"DS_ACCELERATOR": "cpu"}, "eager"),
    "gpu": Backend("nccl", {"DS_ACCELERATOR": "cuda"}, "sdpa"),
}


def config(student: Student, *, accelerator: str) -> dict[str, Any]:
    """Return DeepSpeed's configuration of `student` on `accelerator` (a key of BACKENDS)."""
    accumulate = student.batch_size // student.workers // student.per_device_batch
    options: dict[str, Any] = {
        "train_batch_size": student.batch_size,
        "train_micro_batch_size_per_gpu": student.per_device_batch,
        "gradient_accumulation_steps": accumulate,
        "gradient_clipping": student.max_grad_norm,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": student.learning_rate,
                "weight_decay": student.weight_decay,
                "betas": [0.9, 0.95],  # a run of some hundred steps is over before 0.999 has forgotten the first of them
                "torch_adam": True,  # torch's own AdamW: DeepSpeed's would compile an extension at the first start
                "fused": True,  # one pass over the weights
            },
        },
        "zero_optimization": {
            "stage": student.zero,
            "overlap_comm": accelerator == "gpu",
            "reduce_bucket_size": BUCKET,
            "allgather_bucket_size": BUCKET,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "steps_per_print": 10**9,
    }
    if student.dtype == "bfloat16":
        # A GPU holds bfloat16 weights and a float32 copy; a CPU multiplies in bfloat16 only, which is as fast and more exact.
        options["bf16" if accelerator == "gpu" else "torch_autocast"] = {"enabled": True}
        if accelerator == "cpu":
            options["torch_autocast"]["dtype"] = "bfloat16"
    return options


def start(net: nn.Module, student: Student, *, accelerator: str) -> Any:
    """Return a DeepSpeed engine around `net`. torch.distributed must be initialised already, as Ray Train does."""
    import deepspeed
    import deepspeed.ops

    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # by DeepSpeed, at every step
    deepspeed.logger.setLevel(logging.WARNING)
    if accelerator == "cpu":  # compiling the shared-memory operation takes 30 s, and only inference uses it
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=BACKENDS[accelerator].communication)
    trainable: Any = [parameter for parameter in net.parameters() if parameter.requires_grad]
    engine, *_ = deepspeed.initialize(model=net, model_parameters=trainable, config=config(student, accelerator=accelerator))
    if accelerator == "cpu" and student.zero == 0 and dist.get_world_size() == 1:
        engine.enable_backward_allreduce = False  # it would copy all gradients twice to add them to those of no one
        _inner(engine).register_step_pre_hook(skip_not_finite)
    return engine


def skip_not_finite(optimizer: torch.optim.Optimizer, *arguments: Any) -> None:
    """Leave the step out if a gradient is not finite, as the stages 1 to 3 do."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    if weights and not torch.nn.utils.get_total_norm([weight.grad for weight in weights]).isfinite():
        for weight in weights:
            weight.grad = None


def is_partitioned(folder: Path) -> bool:
    """Return whether a checkpoint is one of an earlier version, which only the stage that wrote it can read."""
    return (folder / TAG).is_dir()


def set_learning_rate(engine: Any, rate: float) -> None:
    """Set the learning rate of the next optimizer step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def weights(engine: Any) -> dict[str, Tensor] | None:
    """Return all weights on rank 0, None on the others. Every rank must call it: in stage 3 each holds a partition."""
    if engine.zero_optimization_stage() == 3:
        return engine._zero3_consolidated_16bit_state_dict()  # float32 stays float32, whatever the name says
    return engine.module.state_dict() if engine.global_rank == 0 else None


def save(engine: Any, folder: Path) -> None:
    """Write weights (float32), moments of Adam and buffers into `folder`, whole and by the names of the parameters.

    So any number of workers and any ZeRO stage can load them. Every rank must call it, rank 0 writes; frozen weights are not
    written, they are those of the source.
    """
    shard: dict[str, Tensor] = {}
    number = count()
    for name, tensor in _state(engine):
        if engine.global_rank == 0:
            shard[name] = tensor.detach().cpu().clone()
            if sum(held.nbytes for held in shard.values()) > SHARD_BYTES:
                save_file(shard, folder / f"{STATE}-{next(number):05d}.safetensors")
                shard = {}
    if shard:
        save_file(shard, folder / f"{STATE}-{next(number):05d}.safetensors")


def load_weights(net: nn.Module, folder: Path) -> None:
    """Put the weights and buffers that `save` wrote into `net`, before DeepSpeed partitions it."""
    targets = {f"{BUFFER}.{name}": each for name, each in net.named_buffers()}
    targets |= {f"{WEIGHT}.{name}": each for name, each in net.named_parameters()}
    stored = _Stored(folder)
    for name in targets.keys() & stored.files.keys():
        targets[name].data.copy_(stored[name])


def load(engine: Any, folder: Path) -> None:
    """Restore float32 weights and moments of Adam on every rank; `load_weights` came first.

    A checkpoint of a version that wrote DeepSpeed's own partitions is read by as many workers and the stage that wrote it.

    Raises:
        ModelError: such a checkpoint is of another number of workers or another stage.
    """
    if is_partitioned(folder):
        _load_partitions(engine, folder)
        return
    stored = _Stored(folder)
    flats, inner = _flat_partitions(engine), _inner(engine)
    for flat in flats:
        inner.state[flat] = {STEP: stored[STEP].to(flat.device), **{key: torch.zeros_like(flat) for key in MOMENTS}}
    if flats and engine.zero_optimization_stage() < 3:
        engine.optimizer._lazy_init_hp_params_optimizer_state()  # after the first step DeepSpeed calls it itself
    masters = _masters(engine)
    for name, parameter in _trainable(engine):
        if not flats:
            master: Any = masters.get(id(parameter), parameter)
            master.data.copy_(stored[f"{WEIGHT}.{name}"])
            moments = {key: stored[f"{key}.{name}"].to(master.device) for key in MOMENTS if f"{key}.{name}" in stored.files}
            if moments:  # a weight that has had no gradient has none
                inner.state[master] = {STEP: stored[STEP].to(master.device), **moments}
            continue
        for key in (key for key in (WEIGHT, *MOMENTS) if f"{key}.{name}" in stored.files):
            _set_full(parameter, stored[f"{key}.{name}"].to(parameter.device), None if key == WEIGHT else key)


def _set_full(parameter: Any, value: Tensor, key: str | None) -> None:
    """Set this rank's part of a parameter's float32 weight (`key` None) or moment from the whole `value`."""
    import deepspeed.utils as fragments

    if hasattr(parameter, "ds_id"):  # stage 3, whose own function does not pad the last rank's part
        size, rank = parameter.ds_tensor.ds_numel, dist.get_rank()
        padded = torch.nn.functional.pad(value.flatten(), (0, size * dist.get_world_size() - value.numel()))
        parameter._z3_optimizer.set_local_hp_param(padded.narrow(0, size * rank, size), parameter, key)
    elif key is None:
        fragments.safe_set_full_fp32_param(parameter, value)
    else:
        fragments.safe_set_full_optimizer_state(parameter, value, key)


def _state(engine: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a checkpoint by name, whole; every rank must consume it, as each is gathered from all."""
    import deepspeed.utils as fragments

    inner, flats, masters = _inner(engine), _flat_partitions(engine), _masters(engine)
    steps = [state[STEP] for state in inner.state.values() if STEP in state]
    yield STEP, torch.as_tensor(steps[0]).reshape(()).float()
    for name, parameter in _trainable(engine):
        if flats:
            yield f"{WEIGHT}.{name}", fragments.safe_get_full_fp32_param(parameter)
            for key in MOMENTS:
                yield f"{key}.{name}", fragments.safe_get_full_optimizer_state(parameter, key)
        else:
            master: Any = masters.get(id(parameter), parameter)
            yield f"{WEIGHT}.{name}", master.float()
            yield from ((f"{key}.{name}", inner.state[master][key]) for key in MOMENTS if key in inner.state.get(master, {}))
    kept = engine.module.state_dict().keys()
    yield from ((f"{BUFFER}.{name}", each) for name, each in engine.module.named_buffers() if name in kept)


class _Stored:
    """The tensors of a checkpoint by name, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for path in folder.glob(f"{STATE}-*.safetensors"):
            with safe_open(path, "pt") as file:
                self.files |= dict.fromkeys(file.keys(), path)

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self.files[name], "pt") as file:
            return file.get_tensor(name)


def _trainable(engine: Any) -> list[tuple[str, Any]]:
    return [(name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad]


def _inner(engine: Any) -> Any:
    """Return the optimizer of torch."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def _flat_partitions(engine: Any) -> list[Tensor]:
    """Return this rank's float32 weights, flat, as the optimizer has them; [] in stage 0."""
    found = (getattr(engine.optimizer, name, None) for name in FLAT_PARTITIONS)
    return next((list(flats) for flats in found if flats is not None), [])


def _masters(engine: Any) -> dict[int, Any]:
    """Return the float32 copy of each parameter, by `id`, in stage 0 with bfloat16 weights; {} elsewhere."""
    groups = (getattr(engine.optimizer, name, ()) for name in ("fp16_groups", "fp32_groups"))
    pairs = zip(*groups, strict=False)
    return {id(low): high for lows, highs in pairs for low, high in zip(lows, highs, strict=True)}


def _load_partitions(engine: Any, folder: Path) -> None:
    stage, workers = engine.zero_optimization_stage(), engine.dp_world_size
    found = len(list((folder / TAG).glob("*_optim_states.pt")))  # one a worker, in stage 0 none
    try:
        if found != (workers if stage else 0):
            raise ValueError(f"it has the states of {found} optimizers")
        engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)
    except Exception as error:  # DeepSpeed asserts, without a message
        raise ModelError(
            f"{folder}: this checkpoint of an earlier version cannot be read by {workers} workers in ZeRO stage {stage}: "
            f"{type(error).__name__} {error}. Set `workers` and `zero` of the student as they were when its training began, or "
            "delete the checkpoints to begin anew."
        ) from error
