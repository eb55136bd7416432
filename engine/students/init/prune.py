"""Prune-init: some decoder layers of a larger model, with its embeddings, final norm and tokenizer.

The middle layers are the most redundant ones (Men et al., 2024, "ShortGPT"): keep the first and the last.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.records.student import StudentShape
from engine.students.data import preflight
from engine.students.init import weights

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Keys under which a configuration gives its number of layers."""

POSITION_COUNTS = ("max_position_embeddings", "n_positions")
"""Keys under which a configuration gives the length of the longest text."""


@dataclass(frozen=True)
class PrunedModel:
    """A model at the start of its training, and its tokenizer (transformers' classes)."""

    model: Any
    tokenizer: Any
    source_layers: int  # decoder layers of the model that it was made from
    source_parameters: int
    shape: StudentShape | None = None  # what `init.shrink` kept
    adapter: Any = None  # peft's model around `model`, if low-rank updates are trained


def load(source: Path) -> PrunedModel:
    """Load the whole model and the tokenizer in the folder `source`, in float32.

    Raises:
        ModelError: the folder holds no causal language model, no tokenizer, or one with code of its own, which is never executed;
            its weights are quantised, some are missing, or its output layer is tied and is not.
    """
    import torch
    from transformers import AutoModelForCausalLM

    weights.check_numbers(source, preflight.configuration(source / "config.json"))
    tokenizer, options = preflight.load(source), {"local_files_only": True, "trust_remote_code": False}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **options)
    except Exception as error:  # whatever the files of somebody else make transformers raise
        raise ModelError(f"{source}: no causal language model can be loaded from here: {type(error).__name__}: {error}") from error
    model, info = loaded
    weights.check_missing(source, info["missing_keys"])
    weights.check_tied(source, model)
    layers = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", 0)
    return PrunedModel(model, tokenizer, layers, parameters(model))


def prune(source: Path, layers: Sequence[int]) -> PrunedModel:
    """Load `source` in float32 and keep only its decoder layers `layers`, in that order.

    Raises:
        ModelError: the folder holds no causal language model, or it has no layer of that index.
    """
    from engine.students.init.layers import find, keep

    loaded = load(source)
    check_layers(layers, len(find(loaded.model)), source)
    keep(loaded.model, layers)
    return loaded


def count_layers(source: Path) -> int:
    """Return how many decoder layers the model in the folder `source` has, from its `config.json`.

    transformers is not imported for it: students start in threads, and its lazy module breaks if two threads import it first.

    Raises:
        ModelError: the configuration is missing or has no number of layers.
    """
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        return int(config[next(filter(config.__contains__, LAYER_COUNTS), LAYER_COUNTS[0])])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{source}/config.json: found no num_hidden_layers ({error}). Give a decoder model's folder.") from None


def count_positions(source: Path) -> int | None:
    """Return the most tokens of a text that the model in the folder `source` reads; None if its `config.json` does not say."""
    config = preflight.configuration(source / "config.json")
    found = (config.get("text_config") or config).get
    return next((size for key in POSITION_COUNTS if isinstance(size := found(key), int) and size > 0), None)


def check_layers(layers: Sequence[int], count: int, source: Path) -> None:
    """Raise ModelError if one of `layers` is not among the `count` layers of `source`, or is named twice."""
    unknown = [index for index in layers if not 0 <= index < count]
    if unknown:
        raise ModelError(f"{source}: init.prune.layers: {unknown} are not there; the model has {count} layers, 0 to {count - 1}.")
    if len(set(layers)) < len(layers):
        raise ModelError(f"{source}: init.prune.layers: each layer may be kept once; found {list(layers)}.")


def parameters(model: Any) -> int:
    """Count the parameters of `model`; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
