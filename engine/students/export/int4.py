"""Linear layers in 4 bits, in the layout of GPTQ or AWQ that vLLM serves on GPUs, and on x86 CPUs. AutoRound writes them.

It is called in a process of its own, which alone sees the folder of its packages.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from engine.contract.exports import GROUP_SIZES, Int4
from engine.errors import ModelError
from engine.students.export.gguf import Quantized
from engine.students.export.packages import Packages

PACKAGES = Packages("int4", ("auto-round",), Path(__file__).with_name("int4.txt"))
"""AutoRound, and what it imports at its start that this environment need not have."""
TOOL = Path(__file__).with_name("int4_tool.py")
ROW = 512
"""Tokens of a row of calibration."""
OUTPUTS = 32
"""Of whose multiples the outputs of a layer must be: AutoRound leaves other layers as they are, and vLLM has no kernel for them."""
IGNORED = "lm_head"


def check(source: Path, export: Int4) -> None:
    """Check that the layers of the model in the folder `source` can be in 4 bits; no weights are read.

    Raises:
        ModelError: it is a mixture of experts, or a size of a layer is no multiple of what the layout needs.
    """
    group_size(layers(source), export)


def layers(source: Path) -> dict[str, tuple[int, int]]:
    """Return the linear layers of the model in the folder `source`, but for its output layer: name -> (outputs, inputs).

    Raises:
        ModelError: it is a mixture of experts: their weights are one parameter of three dimensions, and no linear layers.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    described = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(described, trust_remote_code=False)
    experts = [name for name, parameter in model.named_parameters() if parameter.ndim == 3 and "experts" in name]
    if experts:
        raise ModelError(
            f"{source}: {described.model_type} is a mixture of experts ({experts[0]}), which gptq and awq do not pack here. "
            "Use gguf."
        )
    linear = ((name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name != IGNORED)
    return {name: (module.out_features, module.in_features) for name, module in linear}


def group_size(shapes: Mapping[str, tuple[int, int]], export: Int4) -> int:
    """Return the number of inputs with one scale: that of `export`, else the largest that divides all rows.

    Raises:
        ModelError: there is none, or an output size is no multiple of OUTPUTS.
    """
    sizes = [export.group_size] if export.group_size else sorted(GROUP_SIZES, reverse=True)
    odd = [f"{name} has {outputs} outputs" for name, (outputs, _) in shapes.items() if outputs % OUTPUTS]
    uneven = {size: [name for name, (_, inputs) in shapes.items() if inputs % size] for size in sizes}
    fits = [size for size, names in uneven.items() if not names]
    if odd or not fits or not shapes:
        why = odd[0] if odd else "no linear layer" if not shapes else f"{uneven[sizes[-1]][0]} has rows of other lengths"
        raise ModelError(
            f"{export.type}: expected layers with multiples of {OUTPUTS} outputs and of {sizes[-1]} inputs, found: {why}. Use "
            "int8 or gguf, or a smaller group_size."
        )
    return fits[0]


def write(source: Path, target: Path, export: Int4, examples: Sequence[Sequence[int]], packages: str) -> Quantized:
    """Write the model in the folder `source` into `target`, calibrated on `examples` as token ids.

    Raises:
        ModelError: the tool is missing or refuses the model, or has left a layer as it was.
    """
    from engine.students.export.int4_layout import PACKED, tensors  # imports torch, which a check of a contract does without

    if problem := PACKAGES.missing(packages):
        raise ModelError(f"{export.type}: {problem}")
    config = json.loads((source / "config.json").read_text("utf-8"))
    if "quantization_config" in config:
        raise ModelError(f"{source}: is quantised already; {export.type} is made from weights of floating-point numbers.")
    shapes = layers(source)
    size = group_size(shapes, export)
    with tempfile.TemporaryDirectory(prefix="rayleigh-") as scratch:
        order = {
            "source": str(source.resolve()), "target": f"{scratch}/made", "method": export.type, "group_size": size,
            "iterations": export.iterations, "rows": rows_of(examples), "packages": str(Path(packages).resolve()),
        }  # fmt: skip
        made = _tool(order, Path(scratch))
        found = json.loads((made / "config.json").read_text("utf-8"))["quantization_config"]
        for file in [*made.glob("*.safetensors"), *made.glob("*.index.json")]:
            (target / file.name).write_bytes(file.read_bytes())
    done = {name.removesuffix(".qweight") for name in tensors(target) if name.endswith(".qweight")}
    if left := sorted(set(shapes) - done):
        raise ModelError(f"{export.type}: AutoRound left {', '.join(left[:3])} as they were. Use int8 or gguf.")
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": found}, indent=2), "utf-8")
    weights, bits = sum(outputs * inputs for outputs, inputs in shapes.values()), 0
    for name, tensor in tensors(target).items():
        bits += 8 * tensor.nbytes if name.rpartition(".")[2] in PACKED else 0
    return Quantized({f"{export.type} of groups of {size}": len(done)}, 0, round(bits / weights, 2))


def rows_of(examples: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the token ids of all `examples`, one after the other, in rows of ROW, or of all if they are fewer.

    Raises:
        ModelError: there is no token.
    """
    ids = list(chain.from_iterable(examples))
    if not ids:
        raise ModelError("no training example can be read, so that nothing calibrates the export.")
    size = min(ROW, len(ids))
    return [ids[start : start + size] for start in range(0, len(ids) - size + 1, size)]


def _tool(order: Mapping[str, Any], scratch: Path) -> Path:
    """Run `int4_tool.py`; return the folder that it has written.

    Raises:
        ModelError: it failed; the message has its last words.
    """
    file = scratch / "order.json"
    file.write_text(json.dumps(order), "utf-8")
    done = subprocess.run(
        [sys.executable, "-I", str(TOOL.resolve()), str(file)],
        capture_output=True, text=True, errors="replace", cwd=scratch,  # AutoRound writes into the folder that it is started in
    )  # fmt: skip
    made = [path.parent for path in Path(order["target"]).glob("**/config.json")]
    title = f"{order['method']}: AutoRound"
    if done.returncode < 0:
        raise ModelError(
            f"{title}, at work on {order['source']}, was ended by signal {-done.returncode}, perhaps for lack of memory. "
            "Give it more, or use another export."
        )
    if done.returncode or len(made) != 1:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        lines = [line for line in lines if "INFO" not in line and "WARNING" not in line] or [f"exit {done.returncode}"]
        errors = [line for line in lines if "rror" in line] or lines
        raise ModelError(f"{title} cannot quantise {order['source']}: {errors[-1][:300]}. Use another export.")
    return made[0]
