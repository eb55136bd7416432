"""Depth and width of a decoder model: what each dimension of its weights is, how many parameters a shape has, and the cut to it.

Families are cut that keep Llama's names: `self_attn.{q,k,v,o}_proj`, `mlp.{gate,up,down}_proj` (or no gate), norms over the hidden
size or over one head. The size of a head stays: rotary embeddings and kernels depend on it. Query heads are cut with the key-value
head that they share (Ainslie et al., 2023, "GQA").
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from engine.errors import ModelError
from engine.students.init.layers import COUNTS, POSITIONS, Plain, cut, find

Axis = Literal["query", "key_value", "intermediate", "hidden"]
Axes = tuple[Axis | None, ...]
PARTS: Mapping[str, Axes] = {
    "self_attn.q_proj.weight": ("query", "hidden"),
    "self_attn.k_proj.weight": ("key_value", "hidden"),
    "self_attn.v_proj.weight": ("key_value", "hidden"),
    "self_attn.o_proj.weight": ("hidden", "query"),
    "self_attn.q_proj.bias": ("query",),
    "self_attn.k_proj.bias": ("key_value",),
    "self_attn.v_proj.bias": ("key_value",),
    "self_attn.o_proj.bias": ("hidden",),
    "mlp.gate_proj.weight": ("intermediate", "hidden"),
    "mlp.up_proj.weight": ("intermediate", "hidden"),
    "mlp.down_proj.weight": ("hidden", "intermediate"),
    "mlp.gate_proj.bias": ("intermediate",),
    "mlp.up_proj.bias": ("intermediate",),
    "mlp.down_proj.bias": ("hidden",),
}
"""Weights of a decoder layer and what their dimensions are."""
REQUIRED = [name for name in PARTS if name.endswith("weight") and "gate" not in name]
FREE_HIDDEN = frozenset({"llama", "mistral", "qwen3"})
"""Families of FREE_HEADS that use the hidden size for nothing but the shapes of their weights."""
FREE_HEADS = frozenset({"llama", "mistral", "qwen3", "gemma", "gemma2", "gemma3_text", "granite"})
"""Families whose head size both transformers and vLLM 0.32 read from the configuration; others divide the hidden size by heads."""
RESIZED = frozenset({*POSITIONS, *COUNTS, "hidden_size", "intermediate_size", "in_features", "out_features", "num_heads",
                     "num_attention_heads", "num_key_value_heads", "normalized_shape"})  # fmt: skip
"""Attributes of modules that a cut may change."""


class Shape(NamedTuple):
    """Sizes of a decoder model, all of its layers alike."""

    layers: int
    kv_heads: int
    intermediate: int
    hidden: int


class Kept(NamedTuple):
    """What of a model is kept, by index in the model that is cut, in order."""

    layers: Sequence[int]
    kv_heads: Sequence[Tensor]  # of each kept layer
    intermediate: Sequence[Tensor]  # of each kept layer
    hidden: Tensor


@dataclass(frozen=True)
class Anatomy:
    """The weights of a model by the dimensions that can be cut."""

    family: str
    shape: Shape
    queries: int  # query heads to a key-value head
    head_size: int
    tied: bool  # the output layer is the token table
    prefix: str  # name of the list of layers
    layer: Mapping[str, Axes]  # name in a layer -> dimensions
    outside: Mapping[str, Axes]  # name in the model -> dimensions
    vocabulary: int  # rows of the token table
    free: int  # elements outside of the layers for each unit of the hidden size
    plain: int  # elements of a layer that no cut changes

    def size(self, axis: Axis, shape: Shape) -> int:
        """Return the length of a dimension in a model of `shape`."""
        heads = shape.kv_heads * self.head_size
        lengths = {"query": heads * self.queries, "key_value": heads, "intermediate": shape.intermediate, "hidden": shape.hidden}
        return lengths[axis]

    def with_vocabulary(self, size: int) -> "Anatomy":
        """Return the anatomy with a token table of `size` rows."""
        return replace(self, vocabulary=size, free=self.free - (self.vocabulary - size) * (1 if self.tied else 2))

    def parameters(self, shape: Shape) -> int:
        """Return how many parameters a model of `shape` has; tied ones count once."""
        cuts = (axes for axes in self.layer.values() if None not in axes)
        layer = self.plain + sum(math.prod(self.size(axis, shape) for axis in axes if axis) for axes in cuts)
        return self.free * shape.hidden + layer * shape.layers


def anatomy(model: Any) -> Anatomy:
    """Return the anatomy of `model` (a causal language model of transformers; one on the meta device will do).

    Raises:
        ModelError: a weight is none of those that can be cut, or its layers differ in size.
    """
    stack: Any = find(model)
    config = model.config.get_text_config(decoder=True)
    vocabulary, hidden = model.get_input_embeddings().weight.shape
    described = [{name: tuple(weight.shape) for name, weight in layer.named_parameters()} for layer in stack]
    _require_usual(model, described)
    shapes, attention = described[0], stack[0].self_attn
    head_size = int(attention.head_dim)
    kv_heads = shapes["self_attn.k_proj.weight"][0] // head_size
    shape = Shape(len(stack), kv_heads, shapes["mlp.down_proj.weight"][1], hidden)
    queries = config.num_attention_heads // kv_heads
    prefix = next(name for name, module in model.named_modules() if module is stack)
    layer = {name: PARTS.get(name) or _norm(name, size, hidden, head_size, model) for name, size in shapes.items()}
    rest = {name: tuple(weight.shape) for name, weight in model.named_parameters() if not name.startswith(f"{prefix}.")}
    if wrong := next((name for name, size in rest.items() if size[-1] != hidden or len(size) > 2), None):
        raise _refused(model, f"{wrong} of shape {list(rest[wrong])} is neither a token table nor a norm")
    outside: dict[str, Axes] = {name: (None, "hidden") if len(size) == 2 else ("hidden",) for name, size in rest.items()}
    found = Anatomy(
        family=config.model_type, shape=shape, queries=queries, head_size=head_size,
        tied=model.get_output_embeddings().weight is model.get_input_embeddings().weight, prefix=prefix, layer=layer,
        outside=outside,
        vocabulary=vocabulary, free=sum(math.prod(size[:-1]) for size in rest.values()),
        plain=sum(math.prod(shapes[name]) for name, axes in layer.items() if None in axes),
    )  # fmt: skip
    for name, axes in layer.items():
        expected = tuple(found.size(axis, shape) if axis else length for axis, length in zip(axes, shapes[name], strict=True))
        if shapes[name] != expected:
            raise _refused(model, f"{name} has the shape {list(shapes[name])}, expected {list(expected)}")
    return found


def _require_usual(model: Any, described: Sequence[Mapping[str, tuple[int, ...]]]) -> None:
    """Raise ModelError unless every layer has the usual weights, of the same sizes."""
    shapes = described[0]
    if missing := [name for name in REQUIRED if name not in shapes]:
        other = ", ".join(name for name in shapes if name not in PARTS and len(shapes[name]) > 1)
        kind = "mixtures of experts" if "expert" in other else "fused or other projections"
        raise _refused(model, f"its layers have no {missing[0].removesuffix('.weight')} but {other or 'none'} ({kind})")
    if (odd := next((index for index, each in enumerate(described) if each != shapes), None)) is not None:
        raise _refused(model, f"layer {odd} has other weights, or other sizes, than layer 0")


def _norm(name: str, size: tuple[int, ...], hidden: int, head_size: int, model: Any) -> Axes:
    if size == (hidden,):
        return ("hidden",)
    if size == (head_size,):
        return (None,)
    raise _refused(model, f"{name} of shape {list(size)} in its layers is none of the weights that can be cut")


def _refused(model: Any, reason: str) -> ModelError:
    return ModelError(
        f"{type(model).__name__} cannot be cut in width: {reason}. Take a source whose layers have q_proj, k_proj, v_proj, o_proj, "
        "up_proj and down_proj (Llama, Mistral, Qwen 2 and 3, Gemma, ...), or keep whole layers with init.prune."
    )


def cut_model(model: Any, kept: Kept) -> Any:
    """Return a new model with the parts `kept` of `model`, built from the configuration that describes it. `model` stays.

    Where the hidden size is cut, norms go over fewer channels: their weights are scaled so that the loss of channels that were 0
    changes nothing.

    Raises:
        ModelError: the configuration describes other layers than those kept.
    """
    parts = anatomy(model)
    shape = Shape(len(kept.layers), len(kept.kv_heads[0]), len(kept.intermediate[0]), len(kept.hidden))
    config = _config(model, parts, shape, kept.layers)
    with torch.device("meta"):
        built = type(model)(config)
    theirs = find(built)
    for place, index in enumerate(kept.layers):
        if found := next(_differences(find(model)[index], theirs[place]), None):
            raise _refused(model, f"layer {index} would be another one at place {place}: {found}")
    missing, unexpected = built.load_state_dict(dict(_weights(model, parts, kept)), strict=False, assign=True)
    built.tie_weights()
    _buffers(model, built, parts, kept.layers)
    unset = [name for name, tensor in built.named_parameters() if tensor.is_meta]
    assert not unset and not unexpected, f"{unset or missing} are missing, {unexpected} are unknown"
    return built.train(model.training)


def _config(model: Any, parts: Anatomy, shape: Shape, layers: Sequence[int]) -> Any:
    config = type(model.config).from_dict(copy.deepcopy(model.config.to_dict()))
    text = config.get_text_config(decoder=True)
    cut(text, layers)
    text.num_attention_heads, text.num_key_value_heads = shape.kv_heads * parts.queries, shape.kv_heads
    text.intermediate_size, text.hidden_size = shape.intermediate, shape.hidden
    if text.num_attention_heads * parts.head_size != shape.hidden or getattr(text, "head_dim", None) is not None:
        text.head_dim = parts.head_size  # otherwise it is taken for hidden size / heads
    config._attn_implementation = model.config._attn_implementation
    config.dtype = model.dtype
    return config


def _weights(model: Any, parts: Anatomy, kept: Kept) -> Iterator[tuple[str, Tensor]]:
    """Yield name in the new model and weight."""
    weights = dict(model.named_parameters())
    for name, axes in parts.outside.items():
        found = _select(weights[name].detach(), axes, {"hidden": kept.hidden})
        yield name, _rescaled(found, parts, kept) if axes == ("hidden",) else found
    for place, index in enumerate(kept.layers):
        heads = kept.kv_heads[place]
        chosen: dict[str, Tensor] = {
            "hidden": kept.hidden,
            "intermediate": kept.intermediate[place],
            "key_value": _spread(heads, parts.head_size),
            "query": _spread(heads, parts.head_size * parts.queries),
        }
        for name, axes in parts.layer.items():
            found = _select(weights[f"{parts.prefix}.{index}.{name}"].detach(), axes, chosen)
            is_norm = axes == ("hidden",) and name not in PARTS  # else it is the bias of a projection
            yield f"{parts.prefix}.{place}.{name}", _rescaled(found, parts, kept) if is_norm else found


def _spread(heads: Tensor, each: int) -> Tensor:
    """Return the rows of the heads, of which each has `each`."""
    return (heads[:, None] * each + torch.arange(each)).flatten()


def _select(weight: Tensor, axes: Axes, chosen: Mapping[str, Tensor]) -> Tensor:
    result = weight
    for dimension, axis in enumerate(axes):
        if axis:
            result = result.index_select(dimension, chosen[axis].to(result.device))
    return result.clone()


def _rescaled(norm: Tensor, parts: Anatomy, kept: Kept) -> Tensor:
    """Return the weight of a norm whose mean of squares is over fewer channels than before."""
    return norm * math.sqrt(parts.shape.hidden / len(kept.hidden)) if len(kept.hidden) < parts.shape.hidden else norm


def _buffers(model: Any, built: Any, parts: Anatomy, layers: Sequence[int]) -> None:
    """Give `built` the buffers of `model` (such as rotary frequencies), which no cut changes."""
    ours = dict(model.named_buffers())
    for name, _ in list(built.named_buffers()):
        source = name
        if name.startswith(f"{parts.prefix}."):
            place, _, rest = name.removeprefix(f"{parts.prefix}.").partition(".")
            source = f"{parts.prefix}.{layers[int(place)]}.{rest}"
        owner, _, attribute = name.rpartition(".")
        setattr(built.get_submodule(owner), attribute, ours[source].clone())


def _differences(old: nn.Module, new: nn.Module) -> Iterator[str]:
    """Yield what sets two layers apart besides their sizes."""
    theirs = dict(new.named_modules())
    for name, module in old.named_modules():
        mine, other = _plain(module), _plain(theirs[name]) if name in theirs else {}
        yield from (
            f"{name or 'layer'}.{key} is {mine.get(key)!r} and would be {other.get(key)!r}"
            for key in sorted(mine.keys() | other.keys())
            if repr(mine.get(key)) != repr(other.get(key))
        )


def _plain(module: nn.Module) -> dict[str, object]:
    kept = {key: value for key, value in vars(module).items() if key != "training" and key[0] != "_" and key not in RESIZED}
    return {"class": type(module).__name__, **{key: value for key, value in kept.items() if isinstance(value, Plain)}}
