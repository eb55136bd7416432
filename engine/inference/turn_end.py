"""The token ids that end the turn of an assistant, as the chat template writes them: what a student learns to stop with, and what a
teacher's text ends with when it is scored."""

import re
from typing import Any, NamedTuple

import numpy as np

from engine.errors import ModelError
from engine.inference.engine import Chat
from engine.inference.scoring import Target
from engine.inference.turn_marks import encode_text

QUESTION: Chat = [{"role": "user", "content": "What is the colour of snow?"}]
ANSWER = "It is white"
EMPTY_REASONING = re.compile(r"\s*<think>\s*</think>\s*")
"""What templates of reasoning models put before an answer without reasoning."""


class Rendered(NamedTuple):
    """A question with generation prompt, and the same question with its answer, in a chat template."""

    prompt: str
    between: str
    """What the template writes between the generation prompt and the answer."""
    after: str
    """What it writes after the answer."""


def rendered(tokenizer: Any) -> Rendered:
    """Render the probe with the template of `tokenizer`.

    Raises:
        ModelError: there is no template, or it renders an assistant's turn in another way than its generation prompt announces.
    """
    prompt, whole, at = _probe(tokenizer)
    if not whole.startswith(prompt) or len(prompt) > at:
        raise ModelError(
            "the chat template renders an assistant's turn in another way than its generation prompt announces: the prompt ends "
            f"with {prompt[-40:]!r}, and the turn begins with {whole[max(0, at - 40) : at]!r}. A student would learn another text "
            "than it is served with: mend the template in chat_template.jinja."
        )
    return Rendered(prompt, whole[len(prompt) : at], whole[at + len(ANSWER) :])


def turn_end(tokenizer: Any) -> list[int]:
    """Return the ids that end an assistant's turn: what the template writes after the text, up to its first special token.

    A template that writes no special token there leaves the end to the end of sequence, as for a model without turns.

    Raises:
        ModelError: as `rendered`, or the tokenizer has no end of sequence where it is needed.
    """
    return _up_to_special(tokenizer, rendered(tokenizer).after)


def asked_turn_end(tokenizer: Any) -> list[int]:
    """Return the ids that end a turn of a model that is only asked, not trained: its template may begin a turn in any way.

    Where the template does not render the probe at all, these are the end of sequence.

    Raises:
        ModelError: the tokenizer has no end of sequence where it is needed.
    """
    try:
        _, whole, at = _probe(tokenizer)
    except ModelError:
        return _end_of_sequence(tokenizer, "the chat template renders no question with its answer")
    return _up_to_special(tokenizer, whole[at + len(ANSWER) :])


def target_tokens(tokenizer: Any, target: Target) -> np.ndarray:
    """Return the ids of a text that is scored, and of the end of its turn, int32 [T]."""
    return np.asarray([*encode_text(tokenizer, target.text), *(target.ending or [tokenizer.eos_token_id])], np.int32)


def _probe(tokenizer: Any) -> tuple[str, str, int]:
    """Return the question with generation prompt, the question with its answer, and where the answer is in it.

    Raises:
        ModelError: the template refuses one of them, or drops the answer.
    """
    try:
        prompt, whole = (
            str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=not answered))
            for chat, answered in ((QUESTION, False), ([*QUESTION, {"role": "assistant", "content": ANSWER}], True))
        )
    except Exception as error:  # whatever a template of somebody else raises
        raise ModelError(f"the chat template refuses a question and its answer: {type(error).__name__}: {error}") from None
    at = whole.rfind(ANSWER)
    if at < 0:
        raise ModelError(f"the chat template drops the text of an assistant's turn: it renders {whole[-200:]!r}")
    return prompt, whole, at


def _up_to_special(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of `text` up to its first special token; the end of sequence if it has none."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = {*tokenizer.all_special_ids, *(at for at, token in tokenizer.added_tokens_decoder.items() if token.special)}
    first = next((place for place, token in enumerate(ids) if token in special), None)
    if first is not None:
        return ids[: first + 1]
    return _end_of_sequence(tokenizer, "the chat template ends an assistant's turn with no special token")


def _end_of_sequence(tokenizer: Any, why: str) -> list[int]:
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{why}, and the tokenizer has no eos_token. Name one in tokenizer_config.json.")
    return [tokenizer.eos_token_id]


def padding(tokenizer: Any) -> int:
    """Return the id that fills rows of a batch, which is masked: that of padding, else an end, else the first of the vocabulary."""
    return next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)


def stop_ids(tokenizer: Any) -> int | list[int]:
    """Return the ids at which an engine stops a model with this tokenizer: the end of a turn, and the end of sequence."""
    eos = tokenizer.eos_token_id
    ids = {turn_end(tokenizer)[-1], eos} if tokenizer.chat_template else {eos}
    return eos if ids == {eos} else sorted(token for token in ids if token is not None)
