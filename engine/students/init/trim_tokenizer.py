"""A tokenizer that is trimmed to some texts, as files."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

from engine.contract.init import Trim
from engine.errors import ModelError
from engine.students.data import preflight
from engine.students.init.closure import Vocabulary

AT_ONCE = 1000  # texts that are encoded in one call
COMPARED = 200  # texts on which both tokenizers are compared
PROBES = (
    "Gr\u00fc\u00dfe, c\u0153ur, se\u00f1or, 12 345,67 \u20ac",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u4f60\u597d\u3002\u3053\u3093\u306b\u3061\u306f",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947",
    "def f(x):\n\treturn {'a': x ** 2}  # 3.14",
    "\U0001f44d\U0001f3fd and \U0001f469\u200d\U0001f4bb",
)
"""Texts that a trimmed tokenizer reads and writes as the whole one does, whatever it was trimmed to."""
OMIT = "Leave out init.vocabulary for this source."
CHAT = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "user")]


def trim_tokenizer(tokenizer: Any, order: Trim, source: Path, texts: Iterable[str], target: Path) -> None:
    """Replace the files of `tokenizer` in `target`, which is that of the model in `source`, by those of the trimmed one.

    Raises:
        ModelError: the vocabulary cannot be trimmed as ordered.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{source}: the vocabulary cannot be trimmed: {type(tokenizer).__name__} has no tokenizer.json.")
    backend = tokenizer.backend_tokenizer
    vocabulary = Vocabulary(json.loads(backend.to_str()), f"{source} ({type(tokenizer).__name__})", _special(tokenizer, source))
    counts: Counter[int] = Counter()
    characters: set[str] = set()
    compared: list[str] = []
    for some in _batches(chain(_templates(tokenizer), order.texts, texts)):
        compared += some[: COMPARED - len(compared)]
        for encoded in backend.encode_batch_fast(some, add_special_tokens=False):
            counts.update(encoded.ids)
        normal = map(backend.normalizer.normalize_str, some) if backend.normalizer else some
        characters.update(*normal)
    by_token = {token: count for token, index in vocabulary.ids.items() if (count := counts[index])}
    kept = vocabulary.kept(by_token, characters, order.size)
    (target / "tokenizer.json").write_text(json.dumps(vocabulary.trimmed(kept), ensure_ascii=False), encoding="utf-8")
    _forget_ids(target)
    _compare(tokenizer, target, compared if order.size is None else [])


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while some := list(islice(texts, AT_ONCE)):
        yield some


def _templates(tokenizer: Any) -> Iterator[str]:
    """Yield what the chat template writes around turns."""
    for chat in (CHAT, CHAT[1:]):
        with suppress(Exception):  # whatever a template of somebody else raises for a chat that it does not take
            yield str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def _special(tokenizer: Any, source: Path) -> set[str]:
    """Return the tokens that the tokenizer or the configurations in `source` name: begin, end, padding, unknown."""
    ids = set(tokenizer.all_special_ids)
    for name in ("config.json", "generation_config.json"):
        config = preflight.configuration(source / name)
        for key, value in (*config.items(), *config.get("text_config", {}).items()):
            if key.endswith("_token_id"):
                ids.update(value if isinstance(value, list) else [value])
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    return {names[index] for index in ids if index in names}


def _forget_ids(folder: Path) -> None:
    """Remove the older ids of tokens from the tokenizer's other files, and name the class that reads `tokenizer.json` as it is."""
    for name in ("added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text("utf-8"))
    config.pop("added_tokens_decoder", None)
    file.write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2), encoding="utf-8")


def _compare(whole: Any, folder: Path, texts: Sequence[str]) -> None:
    """Load the trimmed tokenizer in `folder`, and compare it with the whole one: tokens of `texts`, and what PROBES are read as.

    Raises:
        ModelError: they differ.
    """
    trimmed = preflight.load(folder)
    for text in texts:
        before, after = (tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) for tokenizer in (whole, trimmed))
        if before != after:
            raise ModelError(f"{folder}: the trimmed tokenizer encodes {text[:80]!r} otherwise than the whole one. {OMIT}")
    for text in (*PROBES, *texts[:10]):
        before, after = (tokenizer.decode(tokenizer(text)["input_ids"]) for tokenizer in (whole, trimmed))
        if before != after:
            raise ModelError(
                f"{folder}: the trimmed tokenizer reads {text[:80]!r} as {after[:80]!r}, expected {before[:80]!r}. {OMIT}"
            )
