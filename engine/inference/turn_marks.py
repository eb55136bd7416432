"""Text that holds a model's own turn marks is text: it opens no turn in a prompt, and ends no target in its middle.

A tokenizer turns each of its special tokens (`<|im_end|>`, `</s>`, `[INST]`) into one id wherever it stands, also in the text of a
message. Where a text holds one, a separator that no text has is put into it before the chat is rendered, and the separator's ids
are left out afterwards: the template's own marks are ids of their own, those in texts are spelled out. Any other text, and any
text of a model whose turn marks are plain words, is encoded as ever.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from engine.inference.engine import Chat

PROBE: Chat = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "user")]
USUAL_MARKS = re.compile(r"<\|[\w ]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>")
"""Turn marks of common templates, for models whose tokenizer is not here."""
SEPARATORS = [chr(code) for code in range(0xE000, 0xF900)]  # private use: in hardly any text, and a token of its own
BORDER = re.compile(r"(?<=[^\w\s])(?=\w)|(?<=\w)(?=[^\w\s])")  # where tokenizers cut anyway, so that the rest is encoded as ever


@lru_cache(maxsize=8)
def turn_marks(tokenizer: Any) -> re.Pattern[str] | None:
    """Return what finds marks in a text, special tokens and others that the chat template writes around turns; None without any."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    rendered = "".join(_rendered(tokenizer, PROBE[start:]) for start in (0, 1)) if added else ""
    marks = {str(token.content) for token in added if token.special or token.content in rendered}
    marks = {mark for mark in marks if len(mark) > 1 and not (mark.isspace() or mark.isalnum())}
    longest_first = sorted(marks, key=lambda mark: (-len(mark), mark))
    return re.compile("|".join(map(re.escape, longest_first))) if marks and tokenizer.is_fast else None


def _rendered(tokenizer: Any, chat: Chat) -> str:
    try:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    except Exception:  # a template of somebody else may refuse a chat in any way; special tokens are marks all the same
        return ""


def holds_marks(tokenizer: Any, texts: Sequence[str]) -> bool:
    """Return whether one of `texts` holds a mark of the tokenizer."""
    marks = turn_marks(tokenizer)
    return marks is not None and any(marks.search(text) for text in texts)


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of `text` without special tokens around it; marks in it are spelled out."""
    if not holds_marks(tokenizer, [text]):
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    return _spelled_out(tokenizer, [text], lambda texts: texts[0])


def encode_chat(tokenizer: Any, chat: Chat) -> list[int]:
    """Return the ids of `chat` in the tokenizer's template with generation prompt; marks in its texts are spelled out.

    Raises:
        Exception: whatever a template raises that refuses the chat.
    """

    def render(texts: Sequence[str]) -> str:
        turns = [{**turn, "content": text} for turn, text in zip(chat, texts, strict=True)]
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    texts = [turn["content"] for turn in chat]
    if not holds_marks(tokenizer, texts):
        return tokenizer(render(texts), add_special_tokens=False)["input_ids"]
    return _spelled_out(tokenizer, texts, render)


def _spelled_out(tokenizer: Any, texts: Sequence[str], render: Callable[[Sequence[str]], str]) -> list[int]:
    marks = turn_marks(tokenizer)
    assert marks is not None
    separator = next(each for each in SEPARATORS if not any(each in text for text in texts))

    def split(match: re.Match[str]) -> str:
        border = BORDER.search(match[0])
        at = border.start() if border else 1
        return match[0][:at] + separator + match[0][at:]

    rendered = render([_all_split(marks, split, text) for text in texts])
    encoded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    pieces = zip(encoded["input_ids"], (rendered[start:end] for start, end in encoded["offset_mapping"]), strict=True)
    kept = [(token, piece) for token, piece in pieces if piece != separator]
    if any(separator in piece for _, piece in kept):
        raise ValueError(f"text with turn marks: the tokenizer joins the separator U+{ord(separator):04X} with other characters")
    return [token for token, _ in kept]


def _all_split(marks: re.Pattern[str], split: Callable[[re.Match[str]], str], text: str) -> str:
    """Return `text` with each mark split, also one that overlaps with another."""
    while marks.search(text):
        text = marks.sub(split, text)
    return text
