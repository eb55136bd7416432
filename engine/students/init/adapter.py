"""LoRA and DoRA: low-rank updates of linear layers, by peft. All other weights are frozen."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engine.contract.init import Adapter
from engine.errors import ModelError
from engine.students.init.prune import PrunedModel


def add(made: PrunedModel, section: Adapter, *, seed: int) -> PrunedModel:
    """Return `made` with an adapter in its linear layers, which changes nothing yet; the model is changed in place.

    The adapter begins with random numbers from `seed`, times 0.

    Raises:
        ModelError: as `targets`.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=targets(made.model, section),
        use_dora=section.type == "dora",
    )
    torch.manual_seed(seed)
    return replace(made, adapter=get_peft_model(made.model, config))


def targets(model: Any, section: Adapter) -> list[str]:
    """Return the names of the linear layers of `model` that get an update.

    Raises:
        ModelError: a target is not there or shares its weights with another layer, or the rank is larger than a layer.
    """
    output = model.get_output_embeddings()
    linear = dict(_linear(model))
    ordered = section.targets or sorted({_last(name) for name, layer in linear.items() if layer is not output})
    if unknown := [target for target in ordered if not any(_matches(name, target) for name in linear)]:
        known = ", ".join(sorted({_last(name) for name in linear})) or "none"
        raise ModelError(
            f"init.adapter.targets: found {', '.join(unknown)}, expected names of linear layers. This model has {known}."
        )
    shared = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    chosen = {name: layer for name, layer in linear.items() if any(_matches(name, target) for target in ordered)}
    if twice := [name for name, layer in chosen.items() if shared[id(layer.weight)] > 1]:
        raise ModelError(
            f"init.adapter.targets: {twice[0]} shares its weights with another layer (as a tied output layer does with the token "
            "embeddings), so an update of one of them is lost when it is merged. Leave it out of targets."
        )
    smallest = min(chosen, key=lambda name: min(chosen[name].weight.shape))
    if section.rank > (most := min(chosen[smallest].weight.shape)):
        raise ModelError(
            f"init.adapter.rank: found {section.rank}, expected at most {most}, as {smallest} is "
            f"{' x '.join(map(str, chosen[smallest].weight.shape))}. Lower the rank, or leave the layer out of targets."
        )
    return list(ordered)


def _linear(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name of each layer that peft can give an update, and the layer."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    yield from ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D))


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
