"""Structured decoding of values that quote their prompt: a model can choose wrongly among its spans, but never invent.

Extraction as a choice of spans is the pointer of reading comprehension (Rajpurkar et al., 2016, "SQuAD"); here the decoder's
grammar holds it, so that any model points, trained for it or not.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from engine.contract.base import JsonSchema
from engine.contract.specialist import Output

WORD = re.compile(r"\w+")
GAP = re.compile(r"[^\w\n,;:!?()\"]")  # the one character that may stand between two words of a span


def decoding_schema(output: Output, text: str) -> JsonSchema | None:
    """Return the JSON schema by which an answer to the prompt `text` is decoded; None if `output` is free text.

    Each field of `output.spans` becomes an enumeration of the spans of `text` that its own schema accepts, and null where that
    does. A field that no span fits, and that may not be null, stays as it was: an answer must remain possible.
    """
    schema = output.json_schema
    if not schema or not output.spans:
        return schema
    fields = {name: _narrow(schema["properties"][name], text, words) for name, words in output.spans.items()}
    return {**schema, "properties": {**schema["properties"], **fields}}


def spans(text: str, words: int) -> list[str]:
    """Return the pieces of `text` of one word to `words` words, each once, in the order in which they begin."""
    found = list(WORD.finditer(text))
    pieces: dict[str, None] = {}
    for first, start in enumerate(found):
        pieces[start[0]] = None
        for before, last in zip(found[first : first + words - 1], found[first + 1 : first + words], strict=False):
            if not GAP.fullmatch(text, before.end(), last.start()):
                break
            pieces[text[start.start() : last.end()]] = None
    return list(pieces)


def _narrow(field: Mapping[str, Any], text: str, words: int) -> Mapping[str, Any]:
    allowed = _allowed(json.dumps(field), text, words)
    return {"enum": list(allowed)} if allowed else field


@lru_cache(maxsize=1024)  # the samples of a prompt are asked for one after the other
def _allowed(field: str, text: str, words: int) -> tuple[str | None, ...]:
    return tuple(value for value in (*spans(text, words), None) if _accepts(field, value))


@lru_cache(maxsize=2**16)  # prompts share their words
def _accepts(field: str, value: str | None) -> bool:
    return _validator(field).is_valid(value)


@lru_cache(maxsize=64)
def _validator(field: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(field))
