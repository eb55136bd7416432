"""Compares an export with its student before it is evaluated: the first choice at each target token of some examples.

A converter that mistakes a tensor or a tie of weights gives a file that loads and answers worse; on the answers that the student
was trained on it rarely agrees with the student.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from engine.errors import ModelError
from engine.inference.chat_template import Unanswered, tokenize_chats
from engine.inference.engine import Chat
from engine.inference.turn_end import turn_end
from engine.inference.turn_marks import encode_text
from engine.students.export import int4_layout


class Probe(NamedTuple):
    """Token ids of one example."""

    ids: list[int]
    start: int  # index of the first target token


FirstChoices = Callable[[Probe], list[int]]
"""Returns the most probable token at each target token, given all tokens before it."""


def build(tokenizer: Any, examples: Sequence[tuple[Chat, str]], *, max_tokens: int) -> list[Probe]:
    """Return the examples (chat, target) as token ids; those that the template refuses or that are longer are left out."""
    heads = tokenize_chats(tokenizer, [chat for chat, _ in examples])
    targets = [[*encode_text(tokenizer, target), *turn_end(tokenizer)] for _, target in examples]
    pairs = zip(heads, targets, strict=True)
    probes = [Probe(head + target, len(head)) for head, target in pairs if not isinstance(head, Unanswered)]
    return [probe for probe in probes if len(probe.ids) <= max_tokens]


def agreement(probes: Sequence[Probe], first: FirstChoices, second: FirstChoices) -> tuple[float, int]:
    """Return the share of target tokens for which both have the same first choice, and the number of target tokens."""
    pairs = [pair for probe in probes for pair in zip(first(probe), second(probe), strict=True)]
    return sum(one == other for one, other in pairs) / max(1, len(pairs)), len(pairs)


class TransformersChoices:
    """First choices of a folder that transformers loads."""

    def __init__(self, folder: Path, dtype: str) -> None:
        from transformers import AutoModelForCausalLM

        precision = getattr(torch, dtype)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=precision, local_files_only=True, trust_remote_code=False
        ).eval()

    def __call__(self, probe: Probe) -> list[int]:
        """Return the first choices."""
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([probe.ids[:-1]]), use_cache=False).logits[0]
        return logits[probe.start - 1 :].argmax(dim=-1).tolist()


class UnpackedChoices(TransformersChoices):
    """First choices of a folder with weights in 4 bits, unpacked: transformers itself reads such a folder by further packages."""

    def __init__(self, folder: Path, dtype: str) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        precision = getattr(torch, dtype)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=precision, trust_remote_code=False)
        missing, unexpected = model.load_state_dict(dict(int4_layout.unpacked(folder, precision)), strict=False)
        model.tie_weights()
        tied = (getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else ()
        if odd := [*unexpected, *(name for name in missing if name not in tied)]:
            raise ModelError(f"{folder}: {', '.join(odd[:5])} do not fit {type(model).__name__}.")
        self.model = model.eval()
