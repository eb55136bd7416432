"""Weights that are not trained, cast once. Under autocast a layer casts its weight at every forward pass: an output layer of 28
million weights takes 40 ms of a core for that, a twentieth of a step of a small student."""

from typing import Any

import torch
from torch import Tensor, nn


def cast_once(model: nn.Module) -> None:
    """Let the linear layers of `model` whose weights are not trained keep them in the precision of autocast, too.

    Outputs and gradients stay what they were, bit by bit. It takes 2 bytes more for each such weight. The weights must not change
    after the first forward pass, nor be partitioned (ZeRO stage 3).
    """
    for layer in model.modules():
        if type(layer) is nn.Linear and not any(each.requires_grad for each in layer.parameters()):
            setattr(layer, "forward", _Cast(layer))  # noqa: B010 - the type checker knows a method by that name


class _Cast:
    """The forward pass of a linear layer that is not trained."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.held: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        layer, device = self.layer, inputs.device.type
        if not torch.is_autocast_enabled(device):
            return nn.functional.linear(inputs, layer.weight, layer.bias)
        precision: Any = torch.get_autocast_dtype(device)
        if precision not in self.held:
            bias = None if layer.bias is None else layer.bias.detach().to(precision)
            self.held[precision] = layer.weight.detach().to(precision), bias
        return nn.functional.linear(inputs, *self.held[precision])
