"""Weights of 4 bits in the layouts of GPTQ and AWQ, read back as numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

PER_INT = 8
"""Numbers of 4 bits in an int32."""
AWQ_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]
"""Place in an int32 of AWQ's layout of each of eight columns."""
PACKED = ("qweight", "qzeros", "scales", "g_idx")


def unpacked(folder: Path, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Yield name and weights, in `dtype`, of the model in a folder that `int4.write` has written, as an unpacked model has them."""
    method = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]["quant_method"]
    found = tensors(folder)
    for name, tensor in found.items():
        layer, _, last = name.rpartition(".")
        if last == "qweight":
            packed = (found[f"{layer}.{part}"] for part in ("qweight", "qzeros", "scales"))
            yield f"{layer}.weight", dequantize(method, *packed).to(dtype)
        elif last not in PACKED:
            yield name, tensor.to(dtype)


def dequantize(method: str, weight: Tensor, zeros: Tensor, scales: Tensor) -> Tensor:
    """Return the weights [out, in] in float32 of a layer in the layout of `method`.

    `scales` are [in / group, out], `zeros` int32 [in / group, out / 8]. gptq: `weight` is int32 [in / 8, out], and `zeros` are one
    too low; awq: `weight` is int32 [in, out / 8], and eight columns of both are in AWQ_ORDER.
    """
    if method == "gptq":
        numbers = _numbers(weight).transpose(1, 2).flatten(0, 1)
        middle = _numbers(zeros).flatten(1) + 1
    else:
        numbers = _numbers(weight)[..., AWQ_ORDER].flatten(1)
        middle = _numbers(zeros)[..., AWQ_ORDER].flatten(1)
    group = len(numbers) // len(scales)
    centred = numbers - middle.repeat_interleave(group, 0)
    return (centred * scales.float().repeat_interleave(group, 0)).T.contiguous()


def _numbers(packed: Tensor) -> Tensor:
    """Return the eight numbers of 4 bits of each int32, lowest bits first, in a last dimension of their own."""
    return (packed[..., None] >> torch.arange(0, 4 * PER_INT, 4, dtype=torch.int32)) & 15


def tensors(folder: Path) -> dict[str, Tensor]:
    """Return name -> tensor of all files in `folder`."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}
