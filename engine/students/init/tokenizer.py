"""The tokenizer of a student, as files: what its examples are tokenised with, and what is exported with its weights."""

import json
from collections.abc import Iterable
from pathlib import Path

from engine.contract.init import Init
from engine.errors import ModelError
from engine.rows import content_id

KEY_DIGITS = 12


def description(init: Init) -> str:
    """Return everything in `init` on which the tokenizer depends, as JSON: equal texts mean equal tokenizers."""
    return json.dumps({"source": init.prune.source}, sort_keys=True)


def build_tokenizer(init: Init, source: Path, texts: Iterable[str], target: Path) -> None:
    """Write the tokenizer of a student with initial weights `init` into the folder `target`.

    `source` is the folder of the model from which it begins, `texts` are all texts of its examples.

    Raises:
        ModelError: `source` holds no tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{source}: no tokenizer can be loaded from here: {error}") from error
    tokenizer.save_pretrained(target)


def key(folder: Path) -> str:
    """Return the hash of the tokenizer's files in `folder`, 12 hex digits."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return content_id(*(part for path in files for part in (path.relative_to(folder), path.read_bytes())))[:KEY_DIGITS]
