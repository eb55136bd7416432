"""EXAMPLE rows as token ids: the prompt as the serving engine gets it, the target, and the template's end of a turn."""

from typing import Any

import pyarrow as pa

from engine.errors import InputError
from engine.inference.chat_template import Unanswered, tokenize_chats
from engine.inference.turn_marks import encode_text, holds_marks
from engine.rows import EXAMPLE, TOKENS, Row, from_rows
from engine.tools import conversation

COLUMNS = pa.schema(
    EXAMPLE.field(name)
    for name in (
        "example_id", "split", "kind", "messages", "target", "final", "rationale", "weight", "confidence_tier", "difficulty",
    )
)  # fmt: skip
"""What `tokenise` reads."""
COPIED = ("example_id", "split", "kind", "weight", "confidence_tier", "difficulty")


def tokenise(examples: pa.Table, tokenizer: Any, ending: list[int]) -> pa.Table:
    """Return TOKENS of `examples` (COLUMNS), in their order; `ending` are the ids of the end of a turn.

    Text that holds turn marks of the tokenizer is spelled out: it opens no turn, and ends no target in its middle.

    Raises:
        InputError: the chat template refuses the messages of an example.
    """
    rows = examples.to_pylist()
    prompts = tokenize_chats(tokenizer, [row["messages"] for row in rows])
    return from_rows((_tokens(row, prompt, tokenizer, ending) for row, prompt in zip(rows, prompts, strict=True)), TOKENS)


def _tokens(row: Row, prompt: list[int] | Unanswered, tokenizer: Any, ending: list[int]) -> Row:
    if isinstance(prompt, Unanswered):
        raise InputError(
            f"example {row['example_id']}: {prompt.error}. Leave out such messages, or take another init.prune.source."
        )
    target = encode_text(tokenizer, row["target"])
    start = len(prompt)
    check_mask(row["example_id"], start, len(prompt) + len(target) + len(ending))
    end = start + len(target)
    spans = [
        {"kind": kind, "start": start + first, "end": start + last}
        for kind, first, last in _parts(row, target, tokenizer)
        if first < last
    ]
    return {
        **{name: row[name] for name in COPIED},
        "ids": [*prompt, *target, *ending],
        "target_start": start,
        "spans": [*spans, {"kind": "turn_end", "start": end, "end": end + len(ending)}],
    }


def check_mask(example_id: str, start: int, length: int) -> None:
    """Check that some of an example's `length` tokens are read and some learned: the target begins at token `start`.

    Raises:
        InputError: all are learned, or none.
    """
    if not 0 < start < length:
        what = "there is no prompt, so all" if start <= 0 else "there is no target, so none"
        raise InputError(
            f"example {example_id}: {what} of its {length} tokens would be learned. Mend the chat template of the source model (it "
            "must render the messages of a user), or leave the example out."
        )


def _parts(row: Row, target: list[int], tokenizer: Any) -> list[tuple[str, int, int]]:
    """Return kind, first token and token after the last of the parts of a target."""
    text, count = row["target"], len(target)
    if isinstance(conversation.read(text), conversation.Call):
        return [("tool_call", 0, count)]
    rationale = row["rationale"] or ""
    if not rationale or not text.startswith(rationale) or text == rationale:
        return [("final", 0, count)]
    final = len(text) - len(text[len(rationale) :].lstrip())
    border = _tokens_before(text, final, tokenizer)
    return [("rationale", 0, border), ("final", border, count)]


def _tokens_before(text: str, at: int, tokenizer: Any) -> int:
    """Return how many tokens of `text` begin before its character `at`."""
    if not tokenizer.is_fast or holds_marks(tokenizer, [text]):  # no offsets
        return len(encode_text(tokenizer, text[:at]))
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return sum(start < at for start, _ in offsets)
