"""The words of a teacher, as bytes, and how its turns end, without its weights."""

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from engine.capture.schemas import VOCABULARY
from engine.contract.capture import Capture
from engine.contract.models import Model
from engine.inference.fake import END
from engine.inference.token_bytes import special_ids, token_bytes
from engine.inference.turn_end import asked_turn_end

COLUMNS = pa.schema([VOCABULARY.field(name) for name in ("id", "text", "special", "ends")])


class TeacherWords(NamedTuple):
    """What a capture knows of a teacher's tokenizer."""

    rows: pa.Table  # COLUMNS of all tokens
    ending: tuple[int, ...]  # ids that end its turns, if they are others than its end of sequence; else ()


def vocabulary(model: Model, folder: Path | None) -> TeacherWords:
    """Return the words of `model`, whose tokenizer is in `folder`.

    A turn ends with the last token of its template's ending, or with the end of sequence, at which engines stop as well.

    Raises:
        ModelError: no token of the tokenizer ends a turn.
    """
    if folder is None:
        texts = [*(bytes([byte]) for byte in range(END)), b"<end>"]
        return TeacherWords(_table(texts, {END}, {END}), ())
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ending, last = tuple(asked_turn_end(tokenizer)), tokenizer.eos_token_id
    rows = _table(token_bytes(tokenizer), special_ids(tokenizer), {ending[-1], last})
    return TeacherWords(rows, () if ending == (last,) else ending)


def too_many(section: Capture, teacher: str, words: int) -> str:
    """Return the message for a capture that wants more tokens than the teacher has."""
    key = "k" if section.mass is None else "most"
    return f"capture.{key}: found {section.entries}, but the teacher {teacher} has {words} tokens. Write at most that."


def _table(texts: list[bytes], special: set[int], ends: set[int]) -> pa.Table:
    ids = range(len(texts))
    columns = [list(ids), texts, [one in special for one in ids], [one in ends for one in ids]]
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, COLUMNS, strict=True)], schema=COLUMNS)
