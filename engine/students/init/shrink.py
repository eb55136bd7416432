"""Cut a model to a number of parameters: of the shapes that fit, the one with the lowest loss on a sample, before any training.

Which layers, heads and channels a shape keeps follows from their importance. Sizes stay multiples that kernels want.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.contract.shrink import Shrink
from engine.errors import ModelError
from engine.records.student import CutRecord
from engine.students.data.pack import Batch
from engine.students.init import width
from engine.students.init.importance import Importance, mean_loss, measure
from engine.students.init.layers import served_otherwise
from engine.students.init.width import FREE_HEADS, FREE_HIDDEN, Anatomy, Kept, Shape, cut_model

INTERMEDIATE, HIDDEN = 32, 64
"""Feed-forward and hidden sizes are multiples of these."""
SLACK = 0.02
"""Shapes within this share of the wanted number of parameters are preferred to smaller ones."""


class Cut(NamedTuple):
    """One cut."""

    model: Any
    layers: list[int]  # of the model that was cut, in order
    importance: Importance
    record: CutRecord


def cut(model: Any, batches: Sequence[Batch], target: int, options: Shrink) -> Cut:
    """Return `model` cut to at most `target` parameters by its importance on `batches`; both are on one device, in float32.

    Raises:
        ModelError: it cannot be cut to so few parameters, or has parts that cannot be cut.
    """
    parts = width.anatomy(model)
    importance = measure(model, batches, by=options.layers)
    best: tuple[float, Shape, Any, Kept] | None = None
    refused = ""
    tried = 0
    for shape in spread(fitting(parts, target, options), options.candidates):
        kept = chosen(importance, shape)
        try:
            smaller = cut_model(model, kept)
        except ModelError as error:  # these layers are no model of the family; others may be
            refused = str(error)
            continue
        if reason := served_otherwise(smaller.config, kept.layers):
            refused = f"vLLM would not serve what is trained: {reason}"
            continue
        loss, tried = mean_loss(smaller, batches), tried + 1
        if best is None or loss < best[0]:
            best = loss, shape, smaller, kept
    if best is None:
        raise ModelError(f"init.shrink.to: no shape of at most {target} parameters can be built: {refused}")
    loss, shape, smaller, kept = best
    record = CutRecord(
        target=target, parameters=parts.parameters(shape), layers=shape.layers, heads=shape.kv_heads * parts.queries,
        kv_heads=shape.kv_heads, intermediate=shape.intermediate, hidden=shape.hidden, tried=tried,
        loss_before=importance.loss, loss=loss,
    )  # fmt: skip
    return Cut(smaller, list(kept.layers), importance, record)


def targets(parameters: int, to: int, steps: int) -> list[int]:
    """Return the parameters after each of `steps` cuts from `parameters` to `to`: each cut takes the same share."""
    return [*(round(parameters * (to / parameters) ** (step / steps)) for step in range(1, steps)), to]


def wanted(parts: Anatomy, options: Shrink, *, source_parameters: int | None = None, vocabulary: int | None = None) -> int:
    """Return `options.to` as a number of parameters.

    A share is one of `source_parameters`, if the model of `parts` is the source with a trimmed vocabulary. `vocabulary` is the size
    that it will be trimmed to, at least.

    Raises:
        ModelError: it is below what the family allows, or not below the source.
    """
    whole, trimmed = parts.parameters(parts.shape), parts if vocabulary is None else parts.with_vocabulary(vocabulary)
    low = trimmed.parameters(least(parts, options))
    to = options.to if isinstance(options.to, int) else int(options.to * (source_parameters or whole))
    found = f"init.shrink.to: found {options.to}" + ("" if isinstance(options.to, int) else f", which is {to} parameters")
    if to >= whole:
        raise ModelError(f"{found}, expected less than the {whole} parameters of the source. Take init.model for a whole model.")
    if to < low:
        outside = trimmed.free * parts.shape.hidden
        raise ModelError(
            f"{found}, expected at least {low}, the least of this source with depth: {_yes(options.depth)}, width: "
            f"{_yes(options.width)}, hidden: {_yes(options.hidden)} ({outside} parameters are outside of the layers, most of them "
            "in the token table). Raise it, switch more of these on, trim the vocabulary, or take a smaller source."
        )
    return to


def _yes(value: bool) -> str:
    return "true" if value else "false"


def least(parts: Anatomy, options: Shrink) -> Shape:
    """Return the smallest shape that `options` allow."""
    return Shape(*(sizes[0] for sizes in _sizes(parts, options)))


def fitting(parts: Anatomy, target: int, options: Shrink) -> list[Shape]:
    """Return shapes of at most `target` parameters, each with the widest feed-forward layers that fit.

    Those within SLACK of the target, if there are any; else those within SLACK of the largest one.
    """
    layers, kv_heads, intermediate, hidden = _sizes(parts, options)
    shapes = []
    for depth in layers:
        for heads in kv_heads:
            for size in hidden:
                fits = [each for each in intermediate if parts.parameters(Shape(depth, heads, each, size)) <= target]
                if fits:
                    shapes.append(Shape(depth, heads, fits[-1], size))
    largest = max((parts.parameters(shape) for shape in shapes), default=0)
    bound = (1 - SLACK) * (target if largest >= (1 - SLACK) * target else largest)
    return [shape for shape in shapes if parts.parameters(shape) >= bound]


def _sizes(parts: Anatomy, options: Shrink) -> Iterator[Sequence[int]]:
    """Yield the sizes, rising, that layers, key-value heads, feed-forward and hidden channels may have."""
    shape = parts.shape
    yield range(1, shape.layers + 1) if options.depth else [shape.layers]
    yield range(1, shape.kv_heads + 1) if options.width and parts.family in FREE_HEADS else [shape.kv_heads]
    yield [*range(INTERMEDIATE, shape.intermediate, INTERMEDIATE), shape.intermediate] if options.width else [shape.intermediate]
    yield [*range(HIDDEN, shape.hidden, HIDDEN), shape.hidden] if options.hidden else [shape.hidden]


def check(parts: Anatomy, options: Shrink) -> None:
    """Raise ModelError if a model of `parts` cannot be cut as `options` say, besides its size (see `wanted`)."""
    if options.hidden and parts.family not in FREE_HIDDEN:
        families = ", ".join(sorted(FREE_HIDDEN))
        raise ModelError(
            f"init.shrink.hidden: found true, and {parts.family} derives more from its hidden size than the shapes of its weights. "
            f"Set it to false, or take a source of one of these families: {families}."
        )


def spread(shapes: Sequence[Shape], count: int) -> list[Shape]:
    """Return at most `count` of `shapes`, evenly over them."""
    step = max(1.0, len(shapes) / count)
    return [shapes[math.floor(step * (index + 0.5))] for index in range(min(count, len(shapes)))]


def chosen(importance: Importance, shape: Shape) -> Kept:
    """Return the most important parts in the numbers of `shape`, in their order in the model; of equal ones the first."""
    layers = _highest(importance.layers, shape.layers).tolist()
    return Kept(
        layers,
        [_highest(importance.kv_heads[layer], shape.kv_heads) for layer in layers],
        [_highest(importance.intermediate[layer], shape.intermediate) for layer in layers],
        _highest(importance.hidden, shape.hidden),
    )


def _highest(values: Tensor, count: int) -> Tensor:
    return torch.argsort(values, descending=True, stable=True)[:count].sort().values
