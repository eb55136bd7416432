"""Which tokens of a vocabulary are kept for some texts, and the tokenizer that has only these.

A BPE tokenizer begins with single characters and joins the pair of lowest rank until none is left (Sennrich et al., 2016). So a
text is encoded as before if the tokenizer keeps its tokens and all tokens through which these are joined; what other texts need
is spelled out by what is left, down to bytes. A Unigram tokenizer takes the segmentation of the highest score (Kudo, 2018), which
stays the highest if its pieces are kept, and no character of the text becomes unknown.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from engine.errors import ModelError
from engine.records.base import Json

BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
SPACE = "\u2581"  # stands for a space in the vocabularies of SentencePiece


class Vocabulary:
    """The vocabulary of a `tokenizer.json`, and what may be left out of it."""

    def __init__(self, spec: Json, name: str, always: set[str]) -> None:
        """Read `spec`, the content of a `tokenizer.json`; `name` is what messages call it, the tokens `always` are kept.

        Raises:
            ModelError: it cannot be trimmed, as some texts could not be written any more, or would be encoded otherwise.
        """
        self.spec, self.name, self.always = spec, name, always
        self.model: Any = spec["model"]
        self.added: list[Any] = list(spec.get("added_tokens") or [])  # type: ignore[arg-type]
        self.ids = self._ids()
        self._check()

    def _ids(self) -> dict[str, int]:
        vocab = self.model.get("vocab") or {}
        if self.model.get("type") == "Unigram":
            return {piece: index for index, (piece, _) in enumerate(vocab)}
        return dict(vocab)

    def _check(self) -> None:
        kind = self.model.get("type")
        if kind not in ("BPE", "Unigram"):
            raise self._refused(f"its model is {kind}, expected BPE or Unigram")
        if self.model.get("continuing_subword_prefix") or self.model.get("end_of_word_suffix") or self.model.get("dropout"):
            raise self._refused("its BPE marks the parts of words, or joins at random (dropout)")
        if not self.is_byte_level and not (self.model.get("byte_fallback") and self.ids.keys() >= BYTES):
            raise self._refused(f"its {kind} has no tokens for bytes, so what is left could not write every text")

    def _refused(self, why: str) -> ModelError:
        return ModelError(
            f"{self.name}: the vocabulary cannot be trimmed: {why}. Leave out init.vocabulary, or take a model with a byte-level "
            "BPE (as of GPT-2, Llama 3, Qwen) or with byte fallback (as of Llama 2, Gemma)."
        )

    @property
    def is_byte_level(self) -> bool:
        """Whether texts are bytes, written as printable characters, before they are joined (Radford et al., 2019)."""
        return any(
            step.get("type") == "ByteLevel" for place in ("pre_tokenizer", "normalizer") for step in _steps(self.spec[place])
        )

    @property
    def required(self) -> set[str]:
        """Tokens that are always kept: bytes, added tokens, and the one of unknown text."""
        alphabet = set(ByteLevel.alphabet()) if self.is_byte_level else BYTES | {SPACE}
        kept = {token for token in alphabet if token in self.ids} | {token["content"] for token in self.added} | self.always
        if self.model["type"] == "Unigram":
            worst = min(self.model["vocab"], key=lambda entry: entry[1])  # unknown characters are scored by it
            return kept | {worst[0]} | ({self.model["vocab"][unk][0]} if (unk := self.model.get("unk_id")) is not None else set())
        return kept | ({self.model["unk_token"]} if self.model.get("unk_token") in self.ids else set())

    @cached_property
    def merges(self) -> dict[tuple[str, str], int]:
        """Pair of tokens that BPE joins -> its rank."""
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in self.model.get("merges") or ())
        return {(left, right): rank for rank, (left, right) in enumerate(pairs)}

    def parts(self, token: str) -> set[str]:
        """Return `token` and those through which BPE makes it. If no merges make it, it is only taken as a whole word."""
        word, made = list(token), {token, *token}
        while len(word) > 1:
            ranks = [self.merges.get(pair, len(self.merges)) for pair in pairwise(word)]
            at = ranks.index(min(ranks))
            if ranks[at] == len(self.merges):
                return {token}
            word[at : at + 2] = [word[at] + word[at + 1]]
            made.add(word[at])
        return made

    def kept(self, counts: Mapping[str, int], characters: set[str], size: int | None) -> set[str]:
        """Return the tokens to keep for texts that have the tokens `counts` (with their numbers) and the `characters`.

        `size` is the most tokens, the most frequent first.

        Raises:
            ModelError: the tokens that are always kept are more than `size`.
        """
        kept = self.required
        if size is not None and size < len(kept):
            raise ModelError(
                f"{self.name}: init.vocabulary.trim.size: found {size}, expected at least {len(kept)}: every byte and every added "
                "token is kept."
            )
        if self.model["type"] == "Unigram" and size is None:
            kept |= characters & self.ids.keys()
        for token in sorted(counts.keys() & self.ids.keys(), key=lambda token: (-counts[token], self.ids[token])):
            new = ({token} if self.model["type"] == "Unigram" else self.parts(token)) - kept
            if size is None or len(kept) + len(new) <= size:
                kept |= new
        return kept

    def trimmed(self, kept: set[str]) -> Json:
        """Return the `tokenizer.json` that has the tokens `kept` only, in their order; added tokens that are no words come last."""
        words = sorted(kept & self.ids.keys(), key=self.ids.__getitem__)
        beyond = sorted((token for token in self.added if token["content"] not in self.ids), key=lambda token: token["id"])
        new = {token: index for index, token in enumerate([*words, *(token["content"] for token in beyond)])}
        added = sorted(({**token, "id": new[token["content"]]} for token in self.added), key=lambda token: token["id"])
        model = {**self.model, "vocab": {word: new[word] for word in words}}
        if self.model["type"] == "Unigram":
            unk = self.model.get("unk_id")
            model["vocab"] = [entry for entry in self.model["vocab"] if entry[0] in kept]
            model["unk_id"] = None if unk is None else new[self.model["vocab"][unk][0]]
        else:
            model["merges"] = [[*pair] for pair in self.merges if kept.issuperset([*pair, "".join(pair)])]
        spec: Json = {**self.spec, "added_tokens": added, "model": model}
        spec["post_processor"] = _renumbered(self.spec.get("post_processor"), new)
        if padding := self.spec.get("padding"):
            spec["padding"] = {**padding, "pad_id": new[padding["pad_token"]]}  # type: ignore[dict-item]
        return spec


def _steps(section: Any) -> Iterator[Any]:
    """Yield the steps of a section of `tokenizer.json`, also those of a sequence."""
    if section:
        yield section
        for inner in (*section.get("pretokenizers", ()), *section.get("normalizers", ()), *section.get("processors", ())):
            yield from _steps(inner)


def _renumbered(section: Any, new: Mapping[str, int]) -> Any:
    """Return a post-processor with the ids `new` of its tokens."""
    if not section:
        return section
    changed = dict(section)
    if "processors" in section:
        changed["processors"] = [_renumbered(inner, new) for inner in section["processors"]]
    if section["type"] == "TemplateProcessing":
        special = section["special_tokens"]
        changed["special_tokens"] = {key: {**one, "ids": [new[token] for token in one["tokens"]]} for key, one in special.items()}
    for key in ("sep", "cls"):
        if key in section:
            changed[key] = [section[key][0], new[section[key][0]]]
    return changed
