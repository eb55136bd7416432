"""Prune-init: some decoder layers of a larger model, its embeddings, its norm and its tokenizer.

Which layers stay matters more than how many: the first ones read, the last ones write (Men et al., 2024, "ShortGPT", find
the middle ones the most redundant).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelError


@dataclass(frozen=True)
class PrunedModel:
    """A model that is about to be trained, and its tokenizer (transformers' classes)."""

    model: Any
    tokenizer: Any
    source_layers: int  # of the model it was pruned from
    source_parameters: int


def prune(source: Path, layers: Sequence[int], *, freeze_embeddings: bool = True, freeze_layers: int = 0) -> PrunedModel:
    """Load `source` in float32 and keep only its decoder layers `layers`, in that order.

    `freeze_embeddings` leaves the token table, and the output layer tied with it, as they are; `freeze_layers` the first layers.

    Raises:
        ModelError: the folder holds no causal language model, or it has no layer of that index.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{source}: no causal language model can be loaded from here: {error}") from error
    decoder, whole = model.get_decoder(), parameters(model)
    found = len(decoder.layers)
    check_layers(layers, found, source)
    decoder.layers = torch.nn.ModuleList(decoder.layers[index] for index in layers)
    for index, layer in enumerate[Any](decoder.layers):
        layer.self_attn.layer_idx = index  # its place in the key-value cache
    model.config.num_hidden_layers = len(layers)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[index] for index in layers]
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        table.weight.requires_grad_(not freeze_embeddings)
    decoder.layers[:freeze_layers].requires_grad_(False)
    model.train()
    return PrunedModel(model, tokenizer, found, whole)


def count_layers(source: Path) -> int:
    """Return how many decoder layers the model in the folder `source` has, from its `config.json`.

    transformers is not asked: students begin side by side, and its lazy module breaks when two threads import it first.

    Raises:
        ModelError: the configuration does not say.
    """
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        return int(config.get("text_config", config)["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{source}/config.json: found no num_hidden_layers ({error}). Give a decoder model's folder.") from None


def check_layers(layers: Sequence[int], found: int, source: Path) -> None:
    """Raise ModelError if a layer is not one of the `found` layers of `source`, or is named twice."""
    wrong = [index for index in layers if not 0 <= index < found]
    if wrong:
        raise ModelError(f"{source}: init.prune.layers: {wrong} are not there; the model has {found} layers, 0 to {found - 1}.")
    if len(set(layers)) < len(layers):
        raise ModelError(f"{source}: init.prune.layers: each layer may be kept once; found {list(layers)}.")


def parameters(model: Any) -> int:
    """Count the parameters of `model`; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
