"""Structured decoding of fields that quote their prompt: the model chooses one of the prompt's spans and cannot invent a value.

Reading comprehension extracts an answer as a span of the text (Rajpurkar et al., 2016, "SQuAD"); here the grammar of the decoder
enforces it, for models that were not trained to point, too.
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
GAP = re.compile(r"[^\w\n,;:!?()\"]")  # the one character that may separate two words of a span


def decoding_schema(output: Output, text: str) -> JsonSchema | None:
    """Return the JSON schema that decodes an answer to the prompt `text`; None if `output` is free text.

    Each field of `output.spans` becomes an enumeration of the spans of `text` that the field's own schema accepts, with null if it
    accepts null. A field whose schema accepts none of these keeps its schema, so that an answer remains possible.
    """
    schema = output.json_schema
    if not schema or not output.spans:
        return schema
    fields = {name: _span_schema(schema["properties"][name], text, max_words) for name, max_words in output.spans.items()}
    return {**schema, "properties": {**schema["properties"], **fields}}


def candidate_spans(text: str, max_words: int) -> list[str]:
    """Return the different spans of `text` of one to `max_words` words, ordered by where they begin, then by length."""
    words = list(WORD.finditer(text))
    spans: dict[str, None] = {}
    for first, start in enumerate(words):
        spans[start[0]] = None
        for before, last in zip(words[first : first + max_words - 1], words[first + 1 : first + max_words], strict=False):
            if not GAP.fullmatch(text, before.end(), last.start()):
                break
            spans[text[start.start() : last.end()]] = None
    return list(spans)


def _span_schema(field: Mapping[str, Any], text: str, max_words: int) -> Mapping[str, Any]:
    allowed = _allowed(json.dumps(field), text, max_words)
    return {"enum": list(allowed)} if allowed else field


@lru_cache(maxsize=1024)  # the samples of a prompt follow each other
def _allowed(field: str, text: str, max_words: int) -> tuple[str | None, ...]:
    return tuple(value for value in (*candidate_spans(text, max_words), None) if _accepts(field, value))


@lru_cache(maxsize=2**16)  # prompts share their words
def _accepts(field: str, value: str | None) -> bool:
    return _validator(field).is_valid(value)


@lru_cache(maxsize=64)
def _validator(field: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(field))
