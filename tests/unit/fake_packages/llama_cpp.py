"""The functions of llama-cpp-python that the engine calls, over a model that follows a rule.

Its file is JSON: `vocabulary` is the number of tokens, `rule` maps a token to the one that follows it (8 nats above the others; any
other token is followed by the next number), `dies_on` is a token at which the process ends, as it does at a failed assertion.
"""

import ctypes
import json
import os
from types import SimpleNamespace

llama_token = ctypes.c_int32


def llama_backend_init():
    pass


def llama_model_default_params():
    return SimpleNamespace()


llama_context_default_params = llama_model_default_params


def llama_model_load_from_file(path, params):
    with open(path) as file:
        return SimpleNamespace(**{"rule": {}, "dies_on": None, **json.load(file)})


def llama_init_from_model(model, params):
    return SimpleNamespace(model=model, rows={}, length=0, buffers=[])


def llama_model_get_vocab(model):
    return model


def llama_vocab_n_tokens(model):
    return model.vocabulary


def llama_get_memory(context):
    return context


def llama_memory_clear(context, data):
    context.length = 0


def llama_memory_seq_rm(context, sequence, start, end):
    context.length = min(context.length, start)


def llama_batch_init(count, embeddings, sequences):
    return SimpleNamespace(
        token=[0] * count, pos=[0] * count, n_seq_id=[0] * count, seq_id=[[0] for _ in range(count)], logits=[0] * count, n_tokens=0
    )  # fmt: skip


def llama_batch_free(batch):
    pass


def llama_decode(context, batch):
    model = context.model
    context.rows = {}
    for index in range(batch.n_tokens):
        assert batch.pos[index] == context.length, "positions must follow each other"
        context.length += 1
        token = batch.token[index]
        if token == model.dies_on:
            os.abort()
        if batch.logits[index]:
            row = (ctypes.c_float * model.vocabulary)(*[0.0] * model.vocabulary)
            row[model.rule.get(str(token), (token + 1) % model.vocabulary)] = 8.0
            context.rows[index] = row
    return 0


def llama_get_logits_ith(context, index):
    context.buffers.append(context.rows[index])
    return ctypes.cast(context.rows[index], ctypes.POINTER(ctypes.c_float))
