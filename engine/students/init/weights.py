"""Whether the files of a model hold all of its weights, as numbers that can be trained.

transformers fills what is missing with random numbers and goes on, and ties an output layer or not by what it finds in the files.
"""

import json
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.students.data.preflight import configuration

UNIFORM = frozenset({"llama", "mistral", "gemma", "granite", "olmo2", "phi3"})
"""Families whose layers are all alike: for them the seconds that torch takes to import are saved."""
TIED = frozenset({"gemma"})
"""Those of UNIFORM whose output layer is the token embeddings if the configuration does not say."""
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(.+)$")
OUTPUT = "lm_head.weight"


def check_files(folder: Path) -> None:
    """Check the model in `folder` by its configuration and the headers of its safetensors files; no weights are read.

    Raises:
        ModelError: it is quantised, a file is missing or cut off, or, in families whose layers are alike, weights are missing.
    """
    config = configuration(folder / "config.json")
    check_numbers(folder, config)
    names = stored(folder)
    if names is None or config.get("model_type") not in UNIFORM:
        return
    count = config["num_hidden_layers"]
    found = {(int(match[1]), match[2]) for match in map(LAYER.search, names) if match}
    seen = Counter(name for index, name in found if index < count)
    present = len({index for index, _ in found if index < count})
    usual = sorted(name for name, layers in seen.items() if 2 * layers >= present)  # a tensor that one layer alone has is not read
    lacking = [f"layers.{index}.{name}" for index in range(count) for name in usual or ["*"] if (index, name) not in found]
    if not config.get("tie_word_embeddings", config["model_type"] in TIED) and OUTPUT not in names:
        lacking.append(OUTPUT)
    check_missing(folder, lacking)


def check_numbers(folder: Path, config: dict[str, Any]) -> None:
    """Raise ModelError if the weights of the model in `folder` are quantised."""
    if (found := config.get("quantization_config")) is not None:
        method = found.get("quant_method", "unknown") if isinstance(found, dict) else found
        raise ModelError(
            f"{folder}: is quantised (quantization_config of config.json: {method}), and a student begins with floating-point "
            "weights. Take the model that it was made from."
        )


def check_missing(folder: Path, lacking: Collection[str]) -> None:
    """Raise ModelError if the files in `folder` lack the weights `lacking`."""
    if not lacking:
        return
    shown = ", ".join(sorted(lacking)[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
    remedy = "Copy the model's files anew."
    if any(name.endswith(OUTPUT) for name in lacking):
        remedy = (
            "If its output layer is the token embeddings, write tie_word_embeddings: true into config.json; else copy the model's "
            "files anew."
        )
    raise ModelError(f"{folder}: its files lack {shown}, which would begin with random numbers. {remedy}")


def check_tied(folder: Path, model: Any) -> None:
    """Raise ModelError if the loaded `model` has an output layer of its own where its configuration says that it is tied."""
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    says = getattr(model.config.get_text_config(decoder=True), "tie_word_embeddings", False)
    first, second = (getattr(table, "weight", None) for table in (embeddings, output))
    if says and first is not None and second is not None and first is not second and first.shape == second.shape:
        raise ModelError(
            f"{folder}: config.json says tie_word_embeddings: true, and the files hold an output layer with other numbers than the "
            "token embeddings. transformers keeps them apart, and vLLM takes the embeddings for both. Write tie_word_embeddings: "
            "false into config.json, or remove the output layer from the files."
        )


def stored(folder: Path) -> set[str] | None:
    """Return the names of the weights in the safetensors files of the model in `folder`; None if it has none.

    Raises:
        ModelError: a file that the index names is missing, or one cannot be read to its end.
    """
    from safetensors import safe_open

    index, files = folder / INDEX, [WHOLE]
    if index.is_file():
        try:
            files = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{index}: names no files ({error}). Copy the file of the model anew.") from None
    elif not (folder / WHOLE).is_file():
        return None
    names: set[str] = set()
    for name in files:
        try:
            with safe_open(folder / name, framework="np") as opened:
                names.update(opened.keys())
        except Exception as error:  # SafetensorError, and whatever the file system raises
            raise ModelError(f"{folder / name}: cannot be read: {error}. Copy the file of the model anew.") from None
    return names
