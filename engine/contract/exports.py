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
    """Examples of the probe, from the validation split."""


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


AnyExport = Annotated[Gguf | Int8, Field(discriminator="type")]


def is_empty(value: Any) -> bool:
    """Return whether a list is left out of dumps, so that recipes that were hashed before the key existed keep their hashes."""
    return not value
