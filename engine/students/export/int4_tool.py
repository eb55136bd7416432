"""Calls AutoRound. This file is the script of a process of its own, see `int4.py`.

AutoRound calibrates on rows of token ids of one length and writes the layout that is asked for.
"""

import json
import sys
from pathlib import Path
from typing import Any

BATCH = 4
"""Rows of a step."""


def algorithm(method: str, iterations: int) -> dict[str, Any]:
    """Return AutoRound's arguments for `method`, gptq or awq."""
    if method == "awq":
        return {"alg_configs": ["awq", "rtn"], "sym": False}
    return {"iters": iterations, "sym": True}


def quantize(source: str, target: str, method: str, group_size: int, iterations: int, rows: list[list[int]]) -> None:
    """Write the Hugging Face folder `source` as a folder in `target`, calibrated on `rows` of token ids."""
    import torch
    from auto_round import AutoRound  # pyright: ignore[reportMissingImports]  # of its own packages
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local: Any = {"local_files_only": True, "trust_remote_code": False}
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", **local)
    rounding = AutoRound(
        model,
        AutoTokenizer.from_pretrained(source, **local),
        bits=4,
        group_size=group_size,
        dataset=[torch.tensor([row]) for row in rows],
        nsamples=len(rows),
        seqlen=len(rows[0]),
        batch_size=min(BATCH, len(rows)),
        device_map="cuda" if torch.cuda.is_available() else "cpu",
        enable_torch_compile=False,
        **algorithm(method, iterations),
    )
    rounding.quantize_and_save(target, format=f"auto_{method}")


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    sys.path.append(asked.pop("packages"))
    quantize(**asked)
