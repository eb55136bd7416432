"""DeepSpeed, imported by this file only: ZeRO stages 0 to 3 (Rajbhandari et al., 2020) on GPUs or CPUs."""

import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from engine.contract.students import Student

TAG = "deepspeed"
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
    return engine


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
    """Write this rank's partition of weights, optimizer state and counters into `folder`. Every rank must call it."""
    engine.save_checkpoint(str(folder), tag=TAG, exclude_frozen_parameters=True)


def load(engine: Any, folder: Path) -> None:
    """Restore on every rank the state that `save` wrote."""
    engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)  # frozen weights are those of the source
