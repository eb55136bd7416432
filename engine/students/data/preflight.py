"""Whether a student can be trained with a tokenizer: what it learns is, id by id, what it is served with. Before anything is paid.

The prompt of an example is made by the function that the serving engine uses (`engine/inference/chat_template.py`), so what is left
to compare are the template with itself, with the beginning and the end of a sequence, and the tokenizer with the model.
"""

import json
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.inference.chat_template import Unanswered, tokenize_chats
from engine.inference.chat_template import load_tokenizer as load
from engine.inference.turn_end import EMPTY_REASONING, QUESTION, rendered, turn_end

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
Ids = int | list[int] | None


def check_source(source: Path) -> None:
    """Check the tokenizer of the model in the folder `source`; a folder without tokenizer files passes.

    Raises:
        ModelError: a student would learn another text than it is served with; the message says which.
    """
    if any((source / name).is_file() for name in TOKENIZER_FILES):
        tokenizer = load(source)
        check(tokenizer, source, stop_tokens(source, tokenizer))


def check(tokenizer: Any, source: Path, stops: set[str]) -> None:
    """Check `tokenizer`, made from that of the model in `source`; `stops` are the tokens at which the serving engine stops.

    Raises:
        ModelError: training text and serving text differ, the beginning of the sequence is doubled or missing, the turn ends with
            another token than the engine stops at, or the model has no embedding for some of the tokens.
    """
    try:
        _check_vocabulary(tokenizer, source)
        _check_turn(tokenizer)
        _check_begin(tokenizer)
        _check_end(tokenizer, stops)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None


def check_same(built: Any, original: Any, chats: list[Any]) -> None:
    """Check that two tokenizers give the same ids for `chats`: what was saved, and the model's own that it is evaluated with.

    Raises:
        ModelError: they differ.
    """
    for chat, ours, theirs in zip(chats, tokenize_chats(built, chats), tokenize_chats(original, chats), strict=True):
        if ours != theirs:
            raise ModelError(
                f"the tokenizer that is saved gives {_short(ours)} for the chat {str(chat)[:80]}, and that of the source model "
                f"{_short(theirs)}: training and serving would differ. Save the source's tokenizer anew with its save_pretrained."
            )


def stop_tokens(source: Path, tokenizer: Any) -> set[str]:
    """Return the tokens at which an engine that serves the model in `source` stops: those of its generation settings, and eos."""
    ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        found: Ids = configuration(source / name).get("eos_token_id")
        if found is not None:
            ids = {found} if isinstance(found, int) else set(found)  # the generation settings replace those of the model
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return set(tokenizer.convert_ids_to_tokens(sorted(ids)))


def configuration(path: Path) -> dict[str, Any]:
    """Return the content of a configuration of transformers; {} if there is none.

    Raises:
        ModelError: it is no JSON object.
    """
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{path}: is no JSON: {error}. Copy the file of the model anew.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: found {type(found).__name__}, expected a JSON object. Copy the file of the model anew.")
    return found


def _check_vocabulary(tokenizer: Any, source: Path) -> None:
    config = configuration(source / "config.json")
    rows = config.get("text_config", config).get("vocab_size")
    words = max(tokenizer.get_vocab().values()) + 1
    if rows is not None and words > rows:
        raise ModelError(
            f"the tokenizer has {words} tokens, and the model embeddings for {rows} (vocab_size of config.json). Take the "
            "tokenizer that belongs to the model, or enlarge its embeddings (resize_token_embeddings of transformers)."
        )


def _check_turn(tokenizer: Any) -> None:
    text = rendered(tokenizer)
    question = QUESTION[0]["content"]
    if question not in text.prompt:
        raise ModelError(f"the chat template drops the text of a user's turn: it renders {question!r} as {text.prompt[-200:]!r}.")
    if text.between and not EMPTY_REASONING.fullmatch(text.between):
        raise ModelError(
            f"the chat template writes {text.between!r} between its generation prompt and an answer. An answer is learned and "
            "generated right after the generation prompt: make both the same in chat_template.jinja."
        )
    [served] = tokenize_chats(tokenizer, [QUESTION])
    if isinstance(served, Unanswered):
        raise ModelError(served.error)
    trained = tokenizer(text.prompt, add_special_tokens=False)["input_ids"]
    if served != trained:
        raise ModelError(
            f"the prompt that is served is {_short(served)}, and its text has the ids {_short(trained)}: the tokenizer changes "
            "text that a template renders. Take another tokenizer."
        )


def _check_begin(tokenizer: Any) -> None:
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    [ids] = tokenize_chats(tokenizer, [QUESTION])
    if list(ids[:2]) == [bos, bos]:
        raise ModelError(
            f"the chat template begins with two tokens {tokenizer.bos_token!r}, where the model knows one: remove one of them from "
            "chat_template.jinja."
        )
    if tokenizer("x")["input_ids"][:1] == [bos] and ids[0] != bos:
        raise ModelError(
            f"the tokenizer begins a text with {tokenizer.bos_token!r}, and the chat template does not: put {{{{ bos_token }}}} at "
            "the beginning of chat_template.jinja."
        )


def _check_end(tokenizer: Any, stops: set[str]) -> None:
    last = tokenizer.convert_ids_to_tokens(turn_end(tokenizer)[-1])
    if last not in stops:
        raise ModelError(
            f"the chat template ends an assistant's turn with {last!r}, and an engine stops only at "
            f"{', '.join(map(repr, sorted(stops)))} (eos_token_id of generation_config.json, and the tokenizer's): "
            f"it would write on after each answer. "
            f"Add the id {tokenizer.convert_tokens_to_ids(last)} to eos_token_id of generation_config.json."
        )


def _short(ids: object) -> str:
    text = str(ids)
    return text if len(text) <= 60 else text[:57] + "..."
