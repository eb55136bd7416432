"""The words of a teacher, as bytes, and how its turns end, without its weights."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.capture.schemas import VOCABULARY
from engine.contract.capture import Capture
from engine.contract.models import Model
from engine.inference.chat_template import load_tokenizer
from engine.inference.fake import END
from engine.inference.token_bytes import special_ids, token_bytes
from engine.inference.turn_end import asked_turn_end

COLUMNS = pa.schema([VOCABULARY.field(name) for name in ("id", "text", "special", "ends")])


def vocabulary(model: Model, folder: Path | None) -> pa.Table:
    """Return COLUMNS of all tokens of `model`, whose tokenizer is in `folder`.

    A turn ends with the last token of its template's ending, or with the end of sequence, at which engines stop as well.

    Raises:
        ModelError: the tokenizer cannot be loaded, or none of its tokens ends a turn.
    """
    if folder is None:
        texts = [*(bytes([byte]) for byte in range(END)), b"<end>"]
        return _table(texts, {END}, {END})
    tokenizer = load_tokenizer(folder)
    ends = {asked_turn_end(tokenizer)[-1], tokenizer.eos_token_id}
    return _table(token_bytes(tokenizer), special_ids(tokenizer), ends)


def ending(folder: Path | None) -> tuple[int, ...]:
    """Return the ids that end the turns of the model whose tokenizer is in `folder`; () if they are its end of sequence alone.

    Raises:
        ModelError: the tokenizer cannot be loaded, or none of its tokens ends a turn.
    """
    if folder is None:
        return ()
    tokenizer = load_tokenizer(folder)
    ids = asked_turn_end(tokenizer)
    return () if ids == [tokenizer.eos_token_id] else tuple(ids)


def occurring(words: pa.Table, teacher: str, ids: Collection[int]) -> pa.Table:
    """Return VOCABULARY of those of the words of `teacher` (COLUMNS) that have one of `ids`, or end its turns."""
    rows = words.filter(pc.or_(pc.is_in(words["id"], pa.array(sorted(ids), pa.int32())), words["ends"]))
    return rows.append_column("teacher", pa.repeat(teacher, rows.num_rows)).select(VOCABULARY.names)


def too_many(section: Capture, teacher: str, words: int) -> str:
    """Return the message for a capture that wants more tokens than the teacher has."""
    key = "k" if section.mass is None else "most"
    return f"capture.{key}: found {section.entries}, but the teacher {teacher} has {words} tokens. Write at most that."


def _table(texts: list[bytes], special: set[int], ends: set[int]) -> pa.Table:
    ids = range(len(texts))
    columns = [list(ids), texts, [one in special for one in ids], [one in ends for one in ids]]
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, COLUMNS, strict=True)], schema=COLUMNS)
