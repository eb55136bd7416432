"""Weights as a Hugging Face folder that vLLM and transformers load: safetensors, configuration, tokenizer, chat template."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.students.prune import PrunedModel

PREFIX = "model."  # of objectives.Graded, in front of the names of the model it wraps


def write(pruned: PrunedModel, weights: Mapping[str, Tensor], folder: Path, *, dtype: str) -> None:
    """Write `weights`, as the training engine names them, in `dtype` into `folder`, and what is needed to use them.

    The model is built anew on the meta device: the one in training may be split over workers.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    precision = getattr(torch, dtype)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(pruned.model.config, dtype=precision)
    whole = {name.removeprefix(PREFIX): tensor.detach().to(precision) for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(whole, strict=False, assign=True)
    model.tie_weights()
    left = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    assert not left and not unexpected, f"weights do not fit the model: {left or missing} missing, {unexpected} too many"
    ids = pruned.tokenizer
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=ids.bos_token_id, eos_token_id=ids.eos_token_id, pad_token_id=ids.pad_token_id
    )
    model.save_pretrained(folder)
    pruned.tokenizer.save_pretrained(folder)
