"""From a teacher's words to a student's: the same bytes, the same special token, or the first token of the word spelled anew."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from engine.inference.token_bytes import special_ids, token_bytes


class VocabularyMap:
    """Maps the ids of a teacher to token ids of a student, whose last target token is `end`.

    A word that is one token of both has the student's id. Another word is spelled in the student's tokens, and counts as the first
    of them: that is the token with which the student would begin it. Exact for a vocabulary that was cut from the teacher's; for
    one of another family also a word that begins a longer token of the student counts as itself (as in TRL's GOLD, 5885).
    """

    def __init__(self, words: pa.Table, tokenizer: Any, end: int) -> None:
        """`words` are the VOCABULARY rows of one teacher."""
        self.tokenizer, self.end = tokenizer, end
        self.student, special = token_bytes(tokenizer), special_ids(tokenizer)
        self.special = special | {end}
        by_text: dict[bytes, int] = {}
        for token, text in enumerate(self.student):
            if token not in special:
                by_text.setdefault(text, token)
        self.by_text = by_text
        named = {self.student[token]: token for token in special if token < len(self.student)}
        rows = words.to_pylist()
        self.text = {row["id"]: b"" if row["special"] or row["ends"] else row["text"] for row in rows}
        self.ends = {row["id"] for row in rows if row["ends"]}
        self.pieces: dict[int, tuple[int, ...]] = {}
        for row in rows:
            if row["ends"]:
                self.pieces[row["id"]] = (end,)
            elif row["special"]:
                self.pieces[row["id"]] = (named[row["text"]],) if row["text"] in named else ()

    def of(self, word: int) -> tuple[int, ...]:
        """Return the student's tokens of a teacher's word; () if it has none, as rows of the output layer beyond the words have."""
        if word not in self.pieces:
            self.pieces[word] = self._spelled(word) if word in self.text else ()
        return self.pieces[word]

    def _spelled(self, word: int) -> tuple[int, ...]:
        text = self.text[word]
        if word < len(self.student) and self.student[word] == text and word not in self.special:
            return (word,)
        if text in self.by_text:
            return (self.by_text[text],)
        try:
            tokens = self.tokenizer(text.decode("utf-8"), add_special_tokens=False)["input_ids"]
        except UnicodeDecodeError:  # a part of a character
            tokens = [self.by_text.get(bytes([byte]), -1) for byte in text]
        is_same = -1 not in tokens and b"".join(self.student[token] for token in tokens) == text
        return tuple(tokens) if is_same else ()

    def lengths(self, ids: Sequence[int]) -> list[int]:
        """Return the bytes of each of the student's tokens; 0 for special ones."""
        return [0 if token in self.special else len(self.student[token]) for token in ids]

    def spelled_out(self, ids: Sequence[int]) -> bytes:
        """Return the text of the student's tokens, special ones left out."""
        return b"".join(b"" if token in self.special else self.student[token] for token in ids)
