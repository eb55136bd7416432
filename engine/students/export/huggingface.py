"""Weights as a Hugging Face folder that vLLM and transformers load: safetensors, configuration, tokenizer, chat template."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.inference.turn_end import stop_ids
from engine.students.export import adapter
from engine.students.init.prune import PrunedModel

PREFIX = "model."  # LossModule puts it before the names of the weights
TOLERANCE = 1e-4
"""Largest difference of float32 logits between memory and disk, as a share of the largest logit: kernels, order of sums."""
PROBE_TOKENS = 32


def write(pruned: PrunedModel, weights: Mapping[str, Tensor], folder: Path, *, dtype: str) -> None:
    """Write `weights`, named as in LossModule, in `dtype` into `folder`, with configuration, tokenizer and generation settings.

    An adapter is merged in float32 before, and is written by itself into `folder`/adapter, too.

    Raises:
        ModelError: the saved folder, loaded anew, has other weights.
    """
    named = {name.removeprefix(PREFIX): tensor.detach() for name, tensor in weights.items() if name.startswith(PREFIX)}
    if pruned.adapter is not None:
        adapter.save(pruned, named, folder / adapter.FOLDER)
        named = adapter.merged(pruned, named)
    _write(pruned, named, folder, dtype)


def write_base(pruned: PrunedModel, folder: Path, *, dtype: str) -> None:
    """Write the model without its adapter in `dtype` into `folder`, as `write` does.

    Raises:
        ModelError: the saved folder, loaded anew, has other weights.
    """
    _write(pruned, adapter.base(pruned, pruned.model.state_dict()), folder, dtype)


def write_merged(pruned: PrunedModel, folder: Path, *, dtype: str) -> None:
    """Write the model with the adapter in `folder`/adapter into `folder`, as `write` did before.

    Raises:
        ModelError: the saved folder, loaded anew, has other weights.
    """
    _write(pruned, adapter.merged(pruned, adapter.restored(pruned, folder / adapter.FOLDER)), folder, dtype)


def _write(pruned: PrunedModel, weights: Mapping[str, Tensor], folder: Path, dtype: str) -> None:
    """Write `weights`, by their names in the model.

    The model is built again on the meta device: the one in training may be partitioned over workers. That its configuration
    builds the model that is trained is what `verify` shows before the first step, where no rounding is in the way.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    precision = getattr(torch, dtype)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(pruned.model.config, dtype=precision, trust_remote_code=False)
    renamed = {name: tensor.to(precision) for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(renamed, strict=False, assign=True)
    model.tie_weights()
    unset = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    assert not unset and not unexpected, f"weights do not fit the model: {unset or missing} are missing, {unexpected} are unknown"
    ids = pruned.tokenizer
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=ids.bos_token_id, eos_token_id=stop_ids(ids), pad_token_id=ids.pad_token_id
    )
    model.save_pretrained(folder)
    pruned.tokenizer.save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(
        folder, dtype=precision, local_files_only=True, trust_remote_code=False
    ).state_dict()
    changed = [name for name, tensor in renamed.items() if name not in loaded or not _equal(loaded[name], tensor)]
    if changed:
        raise ModelError(
            f"{folder}: {type(model).__name__} is not loaded as it was saved: {', '.join(sorted(changed)[:5])} differ."
        )


def _equal(loaded: Tensor, saved: Tensor) -> bool:
    return loaded.shape == saved.shape and torch.allclose(loaded, saved.to(loaded.device), rtol=0, atol=0, equal_nan=True)


def verify(pruned: PrunedModel, scratch: Path) -> None:
    """Save the model before its first step in float32, and compare it with the one in memory: exact where a rounded one is not.

    Raises:
        ModelError: the saved model is another one.
    """
    folder, ids = scratch / "unlearned", probe(pruned)
    write(pruned, {PREFIX + name: tensor for name, tensor in pruned.model.state_dict().items()}, folder, dtype="float32")
    compare(folder, logits(pruned.model, ids), ids)
    shutil.rmtree(folder)


def probe(pruned: PrunedModel) -> Tensor:
    """Return the token ids [1, PROBE_TOKENS] on which a saved model is compared with the one in memory."""
    size = pruned.model.get_input_embeddings().num_embeddings
    return torch.arange(1, PROBE_TOKENS + 1).mul(7919).remainder(size)[None]


def logits(model: Any, ids: Tensor) -> Tensor:
    """Return the logits [1, L, V] of `model` without dropout."""
    training = model.training
    model.eval()
    with torch.no_grad():
        result = model(input_ids=ids, use_cache=False).logits
    model.train(training)
    return result.float().cpu()


def compare(folder: Path, in_memory: Tensor, ids: Tensor) -> None:
    """Load the model in `folder` anew, and compare its logits for `ids` with those of the model in memory, saved in float32.

    Raises:
        ModelError: they differ, so that what is saved is not what was trained.
    """
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False)
    difference = float((logits(loaded, ids) - in_memory).abs().max())
    limit = TOLERANCE * max(1.0, float(in_memory.abs().max()))
    if in_memory.isfinite().all() and not difference <= limit:  # weights that are no numbers are the training's fault
        raise ModelError(
            f"the saved {type(loaded).__name__} is not the model that is trained: its logits differ by {difference:.3g}, expected "
            f"at most {limit:.3g}. Its configuration cannot describe these layers: keep others in init.prune.layers, "
            "or take another init.prune.source."
        )
