"""The decoder layers of any causal language model of transformers, and the configuration that belongs to some of them.

A configuration tells layers apart in three ways: lists with one entry a layer (`layer_types`), lists of layers (`mlp_only_layers`),
and numbers from which a layer derives what it is by its index (`attn_layer_period`). Lists are cut; whatever a number says is only
right by chance. So the pruned model is compared, module by module, with the one that its configuration builds.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from engine.errors import ModelError

OF_LAYERS = ("mlp_only_layers", "moe_layers", "cross_attention_layers", "attn_layer_indices", "hybrid_layer_ids", "ple_layer_ids")
"""Keys of a configuration that list the layers of one kind by their indices."""
POSITIONS = ("layer_idx", "layer_id", "layer_index", "layer_number")
"""Attributes in which a layer and its mixers keep the layer's index: the place in the key-value cache."""
COUNTS = ("num_layers", "num_hidden_layers", "n_layer", "n_layers")
"""Attributes in which a decoder keeps its number of layers."""
Plain = bool | int | float | str | tuple | list | None


def find(model: Any) -> nn.ModuleList:
    """Return the list of decoder layers of `model` (a causal language model of transformers).

    Raises:
        ModelError: there is none, or more than one has as many entries as the configuration has layers.
    """
    count = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    inner = {id(module) for stack in stacks for layer in stack for module in layer.modules()}
    outer = [stack for stack in stacks if id(stack) not in inner]
    if len(outer) > 1:  # an encoder of another modality may have as many layers
        decoder = {id(module) for module in model.get_decoder().modules()}
        outer = [stack for stack in outer if id(stack) in decoder]
    if len(outer) != 1 or model.get_output_embeddings() is None:
        raise ModelError(
            f"{type(model).__name__} cannot be pruned: found {len(outer)} lists of {count} layers, expected one, and an output "
            "layer. Take a decoder model whose layers are one list as init.prune.source."
        )
    return outer[0]


def keep(model: Any, layers: Sequence[int]) -> nn.ModuleList:
    """Keep only the decoder layers `layers` of `model`, in that order, in the model and in its configuration; return them.

    Raises:
        ModelError: no configuration describes these layers alone, so that what is saved would be loaded as another model.
    """
    stack = find(model)
    for module in model.modules():
        for name in COUNTS:
            if vars(module).get(name) == len(stack):
                setattr(module, name, len(layers))
    kept = [stack[index] for index in layers]
    del stack[:]
    stack.extend(kept)
    for index, layer in enumerate(stack):
        for module in layer.modules():
            for name in POSITIONS:
                if isinstance(vars(module).get(name), int):
                    setattr(module, name, index)
    cut(model.config.get_text_config(decoder=True), layers)
    found = next(differences(model), None)
    if found:
        raise ModelError(
            f"{type(model).__name__} cannot be pruned to the layers {list(layers)}: {found}. The configuration says by index what "
            "a layer is, so these layers would be loaded as others. Keep other layers (such as a whole period from the first layer "
            "on) in init.prune.layers, or take another init.prune.source."
        )
    return stack


def cut(config: Any, layers: Sequence[int]) -> None:
    """Change `config` (a configuration of transformers) so that it describes the decoder layers `layers` only."""
    count = config.num_hidden_layers
    for name, value in list(vars(config).items()):
        if name in OF_LAYERS and value is not None:
            setattr(config, name, [place for place, index in enumerate(layers) if index in value])
        elif isinstance(value, list | tuple) and len(value) == count and not name.endswith("_token_id"):
            setattr(config, name, type(value)(value[index] for index in layers))
    config.num_hidden_layers = len(layers)
    if (dense := getattr(config, "first_k_dense_replace", None)) is not None:
        config.first_k_dense_replace = sum(index < dense for index in layers)
    if (dense := getattr(config, "num_dense_layers", None)) is not None:
        config.num_dense_layers = sum(index < dense for index in layers)


def served_otherwise(config: Any, layers: Sequence[int]) -> str:
    """Return why vLLM 0.32 serves the model of the cut `config` as another one than transformers loads; "" if it does not.

    vLLM's own models of some families do not read the lists of the configuration, and go by the index of a layer.
    """
    config = config.get_text_config(decoder=True)
    if config.model_type == "gpt_oss" and any((place - index) % 2 for place, index in enumerate(layers)):
        return "it gives a sliding window to every layer of even index; keep each layer at an index of the same parity"
    if config.model_type == "llama4_text":
        step = config.interleave_moe_layer_step
        expected = [place for place in range(len(layers)) if step and (place + 1) % step == 0]
        if list(config.moe_layers or []) != expected:
            return f"it takes the layers {expected} for mixtures of experts, and those kept are {list(config.moe_layers or [])}"
    if config.model_type == "qwen2" and len(set(config.layer_types or [])) > 1:
        return "it has no Qwen 2 with a sliding window in some layers only; keep layers of one kind"
    return ""


def differences(model: Any) -> Iterator[str]:
    """Yield what sets `model` apart from the model that its saved configuration builds: modules, shapes, attributes of layers."""
    import torch

    config = type(model.config).from_dict(copy.deepcopy(model.config.to_dict()))
    try:
        with torch.device("meta"):
            built = type(model)(config)
    except Exception as error:  # whatever the model of somebody else raises for a configuration that it does not expect
        yield f"its configuration builds no model ({type(error).__name__}: {error})"
        return
    ours, theirs = dict(model.named_modules()), dict(built.named_modules())
    yield from (f"{name} is only in one of them" for name in sorted(ours.keys() ^ theirs.keys()))
    inside = {id(module) for module in find(model).modules()}
    for name in ours.keys() & theirs.keys():
        in_layer = id(ours[name]) in inside
        mine, rebuilt = _described(ours[name], in_layer), _described(theirs[name], in_layer)
        for key in sorted(mine.keys() | rebuilt.keys()):
            if repr(mine.get(key)) != repr(rebuilt.get(key)):
                yield f"{name}.{key} is {mine.get(key)!r}, and {rebuilt.get(key)!r} in the model that is loaded"


def _described(module: nn.Module, in_layer: bool) -> dict[str, object]:
    """Return the class and the shapes of `module`, by name; of one in a layer the plain attributes, too."""
    attributes = vars(module) if in_layer else {}
    plain = {key: value for key, value in attributes.items() if key != "training" and key[0] != "_" and isinstance(value, Plain)}
    shapes = {key: tuple(tensor.shape) for key, tensor in module.named_parameters(recurse=False)}
    return {"class": type(module).__name__, **plain, **shapes}
