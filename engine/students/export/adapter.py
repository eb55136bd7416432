"""An adapter as files: merged into the model's weights, and by itself in the format of peft.

A checkpoint of the training holds the adapter alone: the model is the source's, and is merged again from it.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.students.init.prune import PrunedModel

FOLDER, BASE = "adapter", "base"  # beside the files of the merged model
FILE = "adapter_model.safetensors"
OF_PEFT = "base_model.model."  # before the names of the weights in a PeftModel
INNER = "base_layer."  # of a layer that has an update


def layers(pruned: PrunedModel) -> dict[str, Any]:
    """Return the layers that have an update, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in pruned.model.named_modules() if isinstance(layer, LoraLayer)}


def base(pruned: PrunedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the model without its adapter. `weights` are all, by their names in the model."""
    updates = tuple(f"{name}.lora_" for name in layers(pruned))
    return {name.replace(INNER, ""): tensor for name, tensor in weights.items() if not name.startswith(updates)}


def merged(pruned: PrunedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the model with its adapter added, in float32. `weights` are all, by their names in the model.

    Each layer is merged in a copy, so that the model in training stays as it is.
    """
    merged = base(pruned, weights)
    for name, layer in layers(pruned).items():
        prefix = f"{name}."
        state = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
        alone = copy.deepcopy(layer).float().cpu()
        alone.load_state_dict(state)
        alone.merge(safe_merge=True)
        merged[f"{name}.weight"] = alone.get_base_layer().weight.data
    return merged


def save(pruned: PrunedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write the adapter into `folder` in float32: its configuration, and its part of `weights`, by their names in the model."""
    from peft import get_peft_model_state_dict

    named = {OF_PEFT + name: tensor for name, tensor in weights.items()}
    # by default the embeddings would be saved, too, if the source has another number of words
    state = get_peft_model_state_dict(pruned.adapter, named, save_embedding_layers=False)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().float().cpu().contiguous() for name, tensor in state.items()}, folder / FILE)
    config = copy.copy(pruned.adapter.peft_config["default"])
    config.base_model_name_or_path = None  # a path of this machine
    config.inference_mode = True
    config.save_pretrained(folder)


def restored(pruned: PrunedModel, folder: Path) -> dict[str, Tensor]:
    """Return all weights of the model, by their names in it, with the adapter that `save` wrote into `folder`."""
    weights = dict(pruned.model.state_dict())
    for name, tensor in load_file(folder / FILE).items():
        name = name.removeprefix(OF_PEFT)
        module, _, last = name.rpartition(".")
        name = f"{module}.default.{last}" if last == "weight" else f"{name}.default.weight"
        assert name in weights, f"{folder}: {name} is no weight of this model"
        weights[name] = tensor
    return weights
