"""Chats as token ids, by the model's own chat template; a template may refuse a chat."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import ModelError
from engine.inference.engine import Chat, merge_system
from engine.inference.turn_marks import encode_chat, holds_marks

PROBE = "Say OK."
ADVICE = (
    "Leave out of the contract what the template does not know: `system` (such as teachers.models.N.system), worked examples, or "
    "system turns of the source. A base model has no template: use its instruct version"
)


class Unanswered(NamedTuple):
    """A request that cannot be sent to the engine."""

    finish_reason: str  # too_long | error
    error: str


def tokenize_chats(tokenizer: Any, chats: Sequence[Chat]) -> list[list[int] | Unanswered]:
    """Return the token ids of each chat, up to where its answer begins, or why the template refuses it.

    Equal chats, as the samples of a prompt are, are rendered once. If the template refuses a chat with several system turns, these
    are merged into one.
    """
    keys = [json.dumps(chat) for chat in chats]
    unique = dict(zip(keys, chats, strict=True))
    try:
        ids: Sequence[list[int] | Unanswered] = _render(tokenizer, list(unique.values())) if unique else []
    except Exception:  # whatever a template of somebody else raises: found chat by chat
        ids = [_render_one(tokenizer, chat) for chat in unique.values()]
    by_key = dict(zip(unique, ids, strict=True))
    return [by_key[key] for key in keys]


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder`.

    Raises:
        ModelError: it holds none, or one with code of its own, which is never executed.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the files of somebody else make transformers raise
        raise ModelError(f"{folder}: no tokenizer can be loaded from here: {type(error).__name__}: {error}") from error


def check_template(folder: Path, system: str) -> None:
    """Check that the model in `folder` can render a system text ("" = none) and a user turn.

    Raises:
        ModelError: it has no chat template, or the template refuses the chat.
    """
    if "raise_exception" not in _template(folder, default="raise_exception"):
        return  # it refuses nothing: the seconds that transformers takes to import are saved
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return  # the engine's own error says more
    chat = [{"role": "user", "content": PROBE}]
    [outcome] = tokenize_chats(tokenizer, [[{"role": "system", "content": system}, *chat] if system else chat])
    if isinstance(outcome, Unanswered):
        raise refused_by(folder, outcome)


def refused_by(folder: Path, refusal: Unanswered) -> ModelError:
    """Return the error of a model whose template refuses every chat."""
    return ModelError(f"{folder}: {refusal.error}\n{ADVICE}.")


def _template(folder: Path, default: str) -> str:
    """Return the text of the chat template, or `default` if no file in a known place holds one."""
    file, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.is_file():
        return file.read_text("utf-8")
    template = json.loads(config.read_text("utf-8")).get("chat_template") if config.is_file() else None
    return json.dumps(template) if template else default


def _render(tokenizer: Any, chats: Sequence[Chat]) -> list[list[int]]:
    marked = [holds_marks(tokenizer, [turn["content"] for turn in chat]) for chat in chats]
    usual = [chat for chat, is_marked in zip(chats, marked, strict=True) if not is_marked]
    ids = iter(tokenizer.apply_chat_template(usual, add_generation_prompt=True, tokenize=True)["input_ids"] if usual else ())
    return [encode_chat(tokenizer, chat) if is_marked else next(ids) for chat, is_marked in zip(chats, marked, strict=True)]


def _render_one(tokenizer: Any, chat: Chat) -> list[int] | Unanswered:
    try:
        return _render(tokenizer, [chat])[0]
    except Exception as error:
        if sum(turn["role"] == "system" for turn in chat) > 1:
            return _render_one(tokenizer, merge_system(chat))
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return Unanswered("error", f"the chat template refuses the chat: {words}")
