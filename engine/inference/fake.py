"""A model that answers by rule, for tests: it needs no weights and no process of its own."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.inference.engine import Chat, Completion, Request
from engine.inference.identity import identity
from engine.inference.scoring import Distribution, Target, Unscored

END = 256
"""Token that ends a scored text; the others are bytes."""


class FakeEngine:
    """Gives `replies` in turn, or repeats the last message. A message over `max_model_len` words is too long."""

    def __init__(self, model: FakeModel, pool: Pool, folder: Path | None) -> None:
        self.model = model
        self.identity = identity(model, folder)
        self.num_answers = self.tokens_read = 0

    def reset_prefix_cache(self) -> None:
        """Do nothing: there is no cache."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order."""
        self._survive([request.chat for request in requests])
        return [self._answer(request, sampling) for request in requests]

    def choice_probs(self, chats: Sequence[Chat], choices: Sequence[str]) -> list[list[float] | None]:
        """Return probability 1 for the last choice."""
        self._survive(chats)
        self.tokens_read += sum(len(chat[-1]["content"].split()) for chat in chats)
        return [[float(choice == choices[-1]) for choice in choices] for _ in chats]

    def mean_nll(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float | None]:
        """Return the share of words that are not in the chat: such a word costs one nat, any other none."""
        self._survive([chat for chat in chats if chat])
        self.tokens_read += sum(len(answer.split()) for answer in answers)
        vocabularies = [{word for turn in chat for word in turn["content"].split()} for chat in chats]
        pairs = zip(vocabularies, [answer.split() for answer in answers], strict=True)
        return [sum(word not in seen for word in words) / len(words) if words else None for seen, words in pairs]

    def distributions(self, targets: Sequence[Target], k: int) -> list[Distribution | Unscored]:
        """Score the bytes of each target, which are its tokens; END ends it.

        The r-th choice has the probability 0.6 * 0.4^r. The target is the first choice, but the second at every seventh byte; the
        other choices are the bytes after it. A schema allows the first two if the text is JSON.
        """
        self._survive([target.chat for target in targets])
        return [self._distribution(target, k) for target in targets]

    def _distribution(self, target: Target, k: int) -> Distribution | Unscored:
        words = len(target.chat[-1]["content"].split())
        if words > self.model.max_model_len:
            return Unscored("too_long", f"{words} words")
        tokens = np.asarray([*target.text.encode(), END], np.int32)
        self.tokens_read += words + len(tokens)
        ids = (tokens[:, None] + np.arange(END + 1)) % (END + 1)
        ids[6::7, [0, 1]] = ids[6::7, [1, 0]]
        probs = 0.6 * 0.4 ** np.arange(END + 1)
        masked = target.json_schema is not None and target.text[:1] == "{"
        probs = np.where(np.arange(END + 1) < (2 if masked else END + 1), probs, 0.0)
        probs /= probs.sum()
        with np.errstate(divide="ignore"):
            logprobs = np.tile(np.log(probs).astype(np.float32), (len(tokens), 1))
            tail = np.full(len(tokens), np.log(probs[k:].sum()), np.float32)
        own = np.where(np.arange(len(tokens)) % 7 == 6, logprobs[:, 1], logprobs[:, 0])
        ids = np.where(np.isneginf(logprobs), -1, ids).astype(np.int32)
        return Distribution(tokens, ids[:, :k], logprobs[:, :k], own, tail, words + len(tokens), masked)

    def _survive(self, chats: Sequence[Chat]) -> None:
        messages = [chat[-1]["content"] for chat in chats]
        if self.model.dies_on and any(self.model.dies_on in message for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)
        while self.model.hangs_on and any(self.model.hangs_on in message for message in messages):
            time.sleep(1)

    def _answer(self, request: Request, sampling: Sampling) -> Completion:
        message = request.chat[-1]["content"]
        words = len(message.split())
        if words > self.model.max_model_len:
            return Completion("", "too_long", words, 0, error=f"{words} words")
        self.num_answers += 1
        replies = self.model.replies
        reply = (replies[(self.num_answers - 1) % len(replies)] if replies else message).split()
        finish_reason = "stop" if len(reply) <= sampling.max_tokens else "length"
        text = " ".join(reply[: sampling.max_tokens])
        ids = (*text.encode(), END) if finish_reason == "stop" else tuple(text.encode())
        return Completion(text, finish_reason, words, len(reply), logprob=-0.1, token_ids=ids)
