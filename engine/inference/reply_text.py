"""The texts of a reply's message: answer, reasoning and refusal, in each form that servers are known to send.

| field of the message | sent by | goes to |
|---|---|---|
| `content`: text | all | answer |
| `content`: list of parts, or one part | Mistral, gateways to Gemini and others | by the part's `type`, see below |
| `reasoning_content` | DeepSeek, vLLM (older), SGLang, llama.cpp, Qwen, xAI | reasoning |
| `reasoning` | vLLM, OpenRouter, Ollama, Groq | reasoning |
| `thinking` | Ollama | reasoning |
| `reasoning_details` (parts), `thinking_blocks` (parts) | OpenRouter, LiteLLM | reasoning |
| `refusal` | OpenAI | refusal |

A server that sends one reasoning under two names is read once: the first field with text counts. A part without `type`, of type
`text` or `output_text` is answer; `thinking`, `reasoning`, `summary_text` and the like are reasoning, `refusal` is a refusal. Other
parts, such as Mistral's `reference` or encrypted reasoning, hold no text.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
ANSWER_PARTS = ("", "text", "output_text")
REASONING_PARTS = (
    "thinking",
    "reasoning",
    "reasoning_content",
    "reasoning_text",
    "summary_text",
    "reasoning.text",
    "reasoning.summary",
)
TEXT_KEYS = ("text", "thinking", "reasoning", "summary", "refusal", "content", "value")
"""Keys of a part that may hold its text; the first with text counts."""


class MessageText(NamedTuple):
    """What a message says."""

    answer: str
    reasoning: str
    refusal: str


def message_text(message: Mapping[str, object]) -> MessageText:
    """Return the texts of a message, "" for each that it does not have.

    Raises:
        ValueError: its content is neither text nor parts.
    """
    content = message.get("content")
    if content is not None and not isinstance(content, str | list | dict):
        raise ValueError(f"content is {content!r:.40}, expected text or a list of parts")
    parts = content if isinstance(content, list) else [content]
    reasoning = next(filter(None, (text_in(message.get(name)) for name in REASONING_FIELDS)), "")
    return MessageText(
        answer=_joined(parts, ANSWER_PARTS),
        reasoning=(reasoning or _joined(parts, REASONING_PARTS)).strip(),
        refusal=text_in(message.get("refusal")) or _joined(parts, ("refusal",)),
    )


def unread_parts(message: Mapping[str, object]) -> set[str]:
    """Return the types of the parts of a message's content that are not read."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    return {_type(part) for part in parts} - {*ANSWER_PARTS, *REASONING_PARTS, "refusal"}


def text_in(value: object) -> str:
    """Return the text in a field: as it is, of a part, or of a list of both; "" for anything else."""
    if isinstance(value, list):
        return "".join(map(text_in, value))
    if isinstance(value, Mapping):
        return next(filter(None, (text_in(value.get(key)) for key in TEXT_KEYS)), "")
    return value if isinstance(value, str) else ""


def _joined(parts: Sequence[object], types: tuple[str, ...]) -> str:
    return "".join(text_in(part) for part in parts if _type(part) in types)


def _type(part: object) -> str:
    return str(part.get("type") or "") if isinstance(part, Mapping) else ""
