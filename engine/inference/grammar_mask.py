"""Bit masks of the tokens that a JSON schema allows, by the library, schema and options with which vLLM decodes."""

import base64
import json
from typing import Any

from engine.contract.base import JsonSchema
from engine.inference.decodable import decodable

THREADS = 1


def compile_grammar(compiler: Any, schema: JsonSchema) -> Any:
    """Return the grammar that vLLM decodes answers of `schema` with under `disable_any_whitespace`: compact JSON, for which
    xgrammar's `any_whitespace=False` is not enough, as its own separators have a space.

    Raises:
        RuntimeError: xgrammar does not compile the schema.
    """
    return compiler.compile_json_schema(json.dumps(decodable(schema).schema), any_whitespace=False, separators=(",", ":"))


class GrammarMasks:
    """Compiles grammars for one tokenizer; `size` is the model's vocabulary with padding."""

    def __init__(self, tokenizer: Any, size: int) -> None:
        import xgrammar  # here: it imports torch and transformers

        self.xgrammar = xgrammar
        self.size = size
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=THREADS)

    def start(self, schema: JsonSchema | None) -> "GrammarMask | None":
        """Return the state of one answer that is constrained by `schema`; None without a schema.

        Raises:
            RuntimeError: xgrammar does not compile the schema.
        """
        if schema is None:
            return None
        compiled = compile_grammar(self.compiler, schema)
        return GrammarMask(self.xgrammar.GrammarMatcher(compiled), self.xgrammar.allocate_token_bitmask(1, self.size))


class GrammarMask:
    """One answer: the tokens that may follow what it has so far."""

    def __init__(self, matcher: Any, bitmask: Any) -> None:
        self.matcher, self.bitmask = matcher, bitmask

    def allowed(self) -> str:
        """Return the mask in base64: 32 tokens an int32, lowest bit first; ends of text are in it where the answer is whole."""
        self.matcher.fill_next_token_bitmask(self.bitmask)
        return base64.b64encode(self.bitmask.numpy().astype("<i4").tobytes()).decode()

    def accept(self, token: int) -> None:
        """Go on behind `token`, which the mask allows."""
        self.matcher.accept_token(token)
