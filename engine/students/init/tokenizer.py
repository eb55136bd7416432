"""The tokenizer of a student, as files: what its examples are tokenised with, and what is exported with its weights."""

import json
from collections.abc import Iterable
from pathlib import Path

from engine.contract.init import Init
from engine.contract.students import Student
from engine.errors import ModelError
from engine.records.tokens import TokensMetrics
from engine.rows import content_id
from engine.storage.artifact import Artifact
from engine.students.data import preflight
from engine.students.init.trim_tokenizer import trim_tokenizer

KEY_DIGITS = 12


def description(student: Student) -> str:
    """Return everything in `student` on which its tokenizer depends, as JSON: equal texts mean equal tokenizers."""
    init = student.init
    champion = {"champion": init.champion.model_dump()} if init.champion else {"source": init.source}
    pairs = {"pairs": True} if reads_pairs(student) else {}
    return json.dumps({**champion, **init.model_dump(mode="json", include={"vocabulary"}), **pairs}, sort_keys=True)


def reads_pairs(student: Student) -> bool:
    """Return whether the vocabulary is trimmed to the texts of preference pairs, too."""
    return student.init.vocabulary is not None and student.objectives.reads_pairs


def build_tokenizer(init: Init, source: Path, texts: Iterable[str], target: Path) -> None:
    """Write the tokenizer of a student with initial weights `init` into the folder `target`.

    `source` is the folder of the model from which it begins, `texts` are all texts of its examples.

    Raises:
        ModelError: `source` holds no tokenizer, or one whose vocabulary cannot be trimmed as ordered.
    """
    tokenizer = preflight.load(source)
    tokenizer.save_pretrained(target)
    if init.vocabulary:
        trim_tokenizer(tokenizer, init.vocabulary.trim, source, texts, target)


def key(folder: Path) -> str:
    """Return the hash of the tokenizer's files in `folder`, 12 hex digits."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return content_id(*(part for path in files for part in (path.relative_to(folder), path.read_bytes())))[:KEY_DIGITS]


def key_of(tokens: Artifact, student: Student) -> str:
    """Return the key of the tokenizer of `student` in the artifact `tokens`.

    Raises:
        ModelError: the artifact has none for it.
    """
    found = tokens.metrics(TokensMetrics).of(description(student))
    if found is None:
        raise ModelError(
            f"{tokens.folder}: has no tokenizer made from {description(student)}. Delete it and run again: rayleigh run"
        )
    return found.key


def fetch(tokens: Artifact, name: str, target: Path) -> Path:
    """Copy the files of the tokenizer with the key `name` from the artifact `tokens` into the local folder `target`; return it."""
    folder = tokens.folder / f"tokenizer_{name}"
    for path in folder.files():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(folder.read(path))
    return target
