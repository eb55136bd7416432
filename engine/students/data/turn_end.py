"""The token ids that end the turn of an assistant, as the chat template writes them: what a student learns to stop with."""

import re
from typing import Any, NamedTuple

from engine.errors import ModelError
from engine.inference.engine import Chat

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
    try:
        prompt, whole = (
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=not answered)
            for chat, answered in ((QUESTION, False), ([*QUESTION, {"role": "assistant", "content": ANSWER}], True))
        )
    except Exception as error:  # whatever a template of somebody else raises
        raise ModelError(f"the chat template refuses a question and its answer: {type(error).__name__}: {error}") from None
    at = whole.rfind(ANSWER)
    if at < 0:
        raise ModelError(f"the chat template drops the text of an assistant's turn: it renders {whole[-200:]!r}")
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
    ids = tokenizer(rendered(tokenizer).after, add_special_tokens=False)["input_ids"]
    special = {*tokenizer.all_special_ids, *(at for at, token in tokenizer.added_tokens_decoder.items() if token.special)}
    first = next((place for place, token in enumerate(ids) if token in special), None)
    if first is not None:
        return ids[: first + 1]
    if tokenizer.eos_token_id is None:
        raise ModelError("the chat template ends an assistant's turn with no special token, and the tokenizer has no eos_token")
    return [tokenizer.eos_token_id]


def stop_ids(tokenizer: Any) -> int | list[int]:
    """Return the ids at which an engine stops a model with this tokenizer: the end of a turn, and the end of sequence."""
    eos = tokenizer.eos_token_id
    ids = {turn_end(tokenizer)[-1], eos} if tokenizer.chat_template else {eos}
    return eos if ids == {eos} else sorted(token for token in ids if token is not None)
