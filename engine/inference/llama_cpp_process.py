"""llama.cpp in a process of its own: it is C++ that ends its process where it finds a fault, and may lie in other packages.

This file is the process's script: `python -I llama_cpp_process.py PACKAGES`. It has the standard library, numpy and llama_cpp,
reads one JSON object a line and answers each with one.
"""

import base64
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BATCH = 512  # prompt tokens computed together


class Weights:
    """A loaded GGUF file with one sequence in its key-value cache."""

    def __init__(self, file: str, context: int, threads: int) -> None:
        import llama_cpp  # pyright: ignore[reportMissingImports]  # of its own packages
        import numpy

        self.lib, self.numpy = llama_cpp, numpy
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(file.encode(), model_params)
        if not self.model:
            raise ValueError("llama.cpp does not load the file")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context, BATCH, BATCH
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise ValueError(f"llama.cpp makes no context of {context} tokens")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.read: list[int] = []  # tokens in the cache

    def reset(self) -> None:
        """Empty the key-value cache."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        self.read = []

    def logits(self, ids: Sequence[int], start: int) -> Iterable[Any]:
        """Yield the logits [V] behind each of ids[start:]; a common prefix with the tokens read before is not computed again."""
        same = next((at for at, (old, new) in enumerate(zip(self.read, ids, strict=False)) if old != new), None)
        same = min(len(self.read), len(ids)) if same is None else same
        same = min(same, start)
        self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(self.context), 0, same, -1)
        self.read = list(ids[:same])
        for first in range(same, len(ids), BATCH):
            chunk = ids[first : first + BATCH]
            wanted = self._decode(chunk, first, start)
            self.read += chunk
            for index in wanted:
                pointer = self.lib.llama_get_logits_ith(self.context, index)
                yield self.numpy.ctypeslib.as_array(pointer, shape=(self.size,)).astype("float64")

    def _decode(self, chunk: Sequence[int], first: int, start: int) -> list[int]:
        """Compute one batch; return the indices in it whose logits are wanted."""
        batch = self.lib.llama_batch_init(len(chunk), 0, 1)
        wanted = []
        for index, token in enumerate(chunk):
            batch.token[index], batch.pos[index] = token, first + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = first + index >= start
            if first + index >= start:
                wanted.append(index)
        batch.n_tokens = len(chunk)
        code = self.lib.llama_decode(self.context, batch)
        self.lib.llama_batch_free(batch)
        if code:
            self.reset()
            raise ValueError(f"llama_decode ended with {code}")
        return wanted

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of `text` by the tokenizer in the file, which a server of it would use; marks in it are special tokens."""
        data = text.encode()
        buffer = (self.lib.llama_token * (len(data) + 8))()
        count = self.lib.llama_tokenize(self.vocabulary, data, len(data), buffer, len(buffer), False, True)
        return list(buffer[: max(0, count)])


def choose(numpy: Any, logits: Any, mask: str | None, asked: Mapping[str, Any]) -> tuple[int, float]:
    """Return the next token, and its log-probability without the mask and at temperature 1, as vLLM reports it.

    `mask` is xgrammar's bit mask in base64, 32 tokens an int32. Greedy at temperature 0, else top-p sampling.
    """
    shifted = logits - logits.max()
    logprobs = shifted - numpy.log(numpy.exp(shifted).sum())
    allowed = logits
    if mask is not None:
        words = numpy.frombuffer(base64.b64decode(mask), dtype="<i4").view("uint8")
        allowed = numpy.where(numpy.unpackbits(words, bitorder="little")[: len(logits)] == 1, logits, -numpy.inf)
    if not asked["temperature"]:
        chosen = int(allowed.argmax())
    else:
        weights = numpy.exp((allowed - allowed.max()) / asked["temperature"])
        order = numpy.argsort(-weights, kind="stable")
        before = numpy.cumsum(weights[order]) / weights.sum() - weights[order] / weights.sum()
        kept = order[before < asked["top_p"]]
        random = numpy.random.default_rng([asked["seed"] % 2**63, asked["step"]])
        chosen = int(random.choice(kept, p=weights[kept] / weights[kept].sum()))
    return chosen, float(logprobs[chosen])


def answer(weights: Weights, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to one line."""
    numpy = weights.numpy
    if asked["do"] == "reset":
        weights.reset()
        return {}
    if asked["do"] == "tokenize":
        return {"ids": [weights.tokenize(text) for text in asked["texts"]]}
    ids = asked["ids"]
    if asked["do"] == "next":
        [logits] = weights.logits(ids, len(ids) - 1)
        token, logprob = choose(numpy, logits, asked["mask"], asked)
        return {"token": token, "logprob": logprob}
    if asked["do"] == "choices":
        [logits] = weights.logits(ids, len(ids) - 1)
        shares = numpy.exp(logits[asked["choices"]] - logits[asked["choices"]].max())
        return {"shares": (shares / shares.sum()).tolist()}
    first, logprobs = [], []
    for at, logits in enumerate(weights.logits(ids[:-1], asked["start"] - 1), start=asked["start"]):  # do: score
        shifted = logits - logits.max()
        first.append(int(logits.argmax()))
        logprobs.append(float(shifted[ids[at]] - numpy.log(numpy.exp(shifted).sum())))
    return {"first": first, "logprobs": logprobs}


def main() -> None:
    """Load what the first line names, then answer each line."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the library prints is no reply
    if packages := sys.argv[1]:
        sys.path.insert(0, packages)
    weights = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if weights is None:
                weights = Weights(asked["file"], asked["context"], asked["threads"])
                reply: dict[str, Any] = {"size": weights.size}
            else:
                reply = answer(weights, asked)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
