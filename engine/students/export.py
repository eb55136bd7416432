"""Weights as a Hugging Face folder that vLLM and transformers load: safetensors, configuration, tokenizer, chat template."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.students.prune import PrunedModel

PREFIX = "model."  # LossModule puts it before the names of the weights


def write(pruned: PrunedModel, weights: Mapping[str, Tensor], folder: Path, *, dtype: str) -> None:
    """Write `weights`, named as in LossModule, in `dtype` into `folder`, with configuration, tokenizer and generation settings.

    The model is built again on the meta device: the one in training may be partitioned over workers.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    precision = getattr(torch, dtype)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(pruned.model.config, dtype=precision)
    renamed = {name.removeprefix(PREFIX): tensor.detach().to(precision) for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(renamed, strict=False, assign=True)
    model.tie_weights()
    unset = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    assert not unset and not unexpected, f"weights do not fit the model: {unset or missing} are missing, {unexpected} are unknown"
    ids = pruned.tokenizer
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=ids.bos_token_id, eos_token_id=ids.eos_token_id, pad_token_id=ids.pad_token_id
    )
    model.save_pretrained(folder)
    pruned.tokenizer.save_pretrained(folder)
