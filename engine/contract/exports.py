"""Exports: further deployments of a trained student, each evaluated and gated by itself."""

from typing import Annotated, Any, Literal

from pydantic import Field

from engine.contract.base import Name, Positive, Section, Share


class Export(Section):
    """What all exports have."""

    agreement: Share = 0.9
    """Least share of target tokens of a probe from the dataset for which the export's first choice is the student's; below it the
    export is refused as broken, before it is evaluated."""
    probe: Positive = 32
    """Examples of the probe, evenly spread over the validation split."""


class Gguf(Export):
    """A GGUF file for llama.cpp, evaluated by llama.cpp on CPUs."""

    type: Literal["gguf"]
    quantize: Literal["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"] = "q8_0"
    """llama.cpp's name of the quantisation. The k-quants need rows of a multiple of 256 numbers: other tensors get a larger type,
    and the artifact's metrics say how many did."""
    name: Name = Field(default_factory=lambda data: data.get("quantize", "gguf"))
    """Name of the export; the deployment is called STUDENT.NAME. Default: `quantize`."""


class Int8(Export):
    """Linear layers in int8, evaluated by vLLM on CPUs and GPUs: weights by output channel, activations by token as they come."""

    type: Literal["int8"]
    name: Name = "int8"
    """Name of the export; the deployment is called STUDENT.NAME."""


GROUP_SIZES = (32, 64, 128)


class Int4(Export):
    """Weights of linear layers in 4 bits, activations as they are, evaluated by vLLM on GPUs and on x86 CPUs. It is calibrated on
    training examples. The student's `dtype` must be bfloat16."""

    type: Literal["gptq", "awq"]
    """Layout of the files, and method. `awq`: activation-aware scales (Lin et al., 2024), then round to nearest with zero points.
    `gptq`: the symmetric layout of GPTQ (Frantar et al., 2023); what is rounded up is learned by signed gradient descent (Cheng et
    al., 2024, "AutoRound"), in place of GPTQ's own second-order rule."""
    group_size: Literal[32, 64, 128] | None = None
    """Inputs that share a scale; null = the largest that divides the rows of all layers."""
    iterations: Positive = 50
    """Steps of the rounding of a layer, for `gptq`: minutes on a CPU, seconds on a GPU."""
    calibration: Positive = 64
    """Training examples on which the export is calibrated, evenly spread over them."""
    name: Name = Field(default_factory=lambda data: data.get("type", "gptq"))
    """Name of the export; the deployment is called STUDENT.NAME. Default: `type`."""


AnyExport = Annotated[Gguf | Int8 | Int4, Field(discriminator="type")]


def is_empty(value: Any) -> bool:
    """Return whether a list is left out of dumps, so that recipes that were hashed before the key existed keep their hashes."""
    return not value
