"""Importance of a model's layers, attention heads, feed-forward and hidden channels, measured on a few batches without gradients.

Layers: block influence (Men et al., 2024, "ShortGPT", section 2.3), or the loss without the layer (Muralidharan et al., 2024,
"Compact language models via pruning and knowledge distillation", arXiv 2407.14679, section 2.2). Width: activations, as in the
same section; their absolute value is averaged over the tokens of an example, and the L2 norm is taken over examples.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from engine.students.data.pack import Batch
from engine.students.init.layers import find
from engine.students.init.width import anatomy

By = Literal["influence", "ablation"]


@dataclass(frozen=True)
class Importance:
    """How much of the model depends on each part; more is more important. Only the order within a row is meaningful."""

    loss: float  # of the whole model, nats per target token
    layers: Tensor  # float64 [L]: 1 - cosine of input and output, or nats per target token by which the loss rises without it
    kv_heads: Tensor  # float64 [L, G]
    intermediate: Tensor  # float64 [L, F]
    hidden: Tensor  # float64 [H]


def measure(model: Any, batches: Sequence[Batch], *, by: By = "influence") -> Importance:
    """Measure the importance of each part of `model` on `batches`, which are on its device.

    Raises:
        ModelError: the model has parts that cannot be cut.
    """
    parts = anatomy(model)
    stack: Any = find(model)
    shape, per_group = parts.shape, parts.head_size * parts.queries
    sizes = {"influence": (shape.layers, 1), "heads": (shape.layers, shape.kv_heads),
             "channels": (shape.layers, shape.intermediate), "hidden": (shape.layers, shape.hidden)}  # fmt: skip
    sums = {name: torch.zeros(size, dtype=torch.float64) for name, size in sizes.items()}
    mask = torch.empty(0)
    tokens = 0

    def add(name: str, layer: int, values: Tensor) -> None:  # values: [B, S, n]
        lengths = mask.sum(1, keepdim=True)
        means = (values.double() * mask[..., None]).sum(1) / lengths
        sums[name][layer] += means.square().sum(0).cpu()

    def attention(layer: int, value: Tensor) -> None:
        heads = value.unflatten(-1, (-1, parts.head_size)).norm(dim=-1)  # [B, S, heads]
        add("heads", layer, heads.unflatten(-1, (shape.kv_heads, -1)).sum(-1))

    def influence(layer: int, before: Tensor, after: Tensor) -> None:
        angle = 1 - cosine_similarity(before.double(), after.double(), dim=-1)
        sums["influence"][layer] += (angle * mask).sum().cpu()

    assert per_group * shape.kv_heads == stack[0].self_attn.o_proj.in_features
    with _evaluating(model), ExitStack() as hooks:
        for index, layer in enumerate(stack):
            watch = [
                _before(layer.self_attn.o_proj, lambda value, index=index: attention(index, value)),
                _before(layer.mlp.down_proj, lambda value, index=index: add("channels", index, value.abs())),
                _before(layer.self_attn.q_proj, lambda value, index=index: add("hidden", index, value.abs())),
                _before(layer.mlp.up_proj, lambda value, index=index: add("hidden", index, value.abs())),
                _around(layer, lambda before, after, index=index: influence(index, before, after)),
            ]
            for handle in watch:
                hooks.callback(handle.remove)
        total = weight = 0.0
        for batch in batches:
            mask = batch.mask.double()
            tokens += int(batch.mask.sum())
            loss, share = _loss(model, batch)
            total, weight = total + loss, weight + share
    whole = total / weight
    layers = sums["influence"][:, 0] / tokens
    if by == "ablation":
        layers = torch.tensor([without(model, index, batches) - whole for index in range(shape.layers)], dtype=torch.float64)
    return Importance(whole, layers, sums["heads"].sqrt(), sums["channels"].sqrt(), sums["hidden"].sum(0).sqrt())


def without(model: Any, layer: int, batches: Sequence[Batch]) -> float:
    """Return the mean loss of `model` on `batches` if decoder layer `layer` returns its input."""
    skipped: Any = find(model)[layer]
    forward = skipped.forward

    def skip(hidden_states: Tensor, *args: object, **kwargs: object) -> Tensor | tuple[Tensor, ...]:
        output = forward(hidden_states, *args, **kwargs)
        return (hidden_states, *output[1:]) if isinstance(output, tuple) else hidden_states

    skipped.forward = skip
    try:
        return mean_loss(model, batches)
    finally:
        del skipped.forward


def mean_loss(model: Any, batches: Sequence[Batch]) -> float:
    """Return the mean cross entropy of `model` on the target tokens of `batches`, weighted as in training, in nats."""
    with _evaluating(model):
        losses = [_loss(model, batch) for batch in batches]
    return sum(loss for loss, _ in losses) / sum(weight for _, weight in losses)


def _loss(model: Any, batch: Batch) -> tuple[float, float]:
    """Return the weighted sum of losses, and the weight. The output layer is computed at the target's positions only."""

    def at_positions(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].flatten(0, 1)[batch.positions].unsqueeze(0),)

    hook = model.get_output_embeddings().register_forward_pre_hook(at_positions)
    try:
        logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[0].double()
    finally:
        hook.remove()
    losses = cross_entropy(logits, batch.labels, reduction="none") * batch.weights.double()
    return float(losses.sum()), float(batch.weights.double().sum())


def _before(module: nn.Module, see: Callable[[Tensor], None]) -> Any:
    return module.register_forward_pre_hook(lambda module, inputs: see(inputs[0]))


def _around(module: nn.Module, see: Callable[[Tensor, Tensor], None]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        see(args[0] if args else kwargs["hidden_states"], output[0] if isinstance(output, tuple) else output)

    return module.register_forward_hook(hook, with_kwargs=True)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
