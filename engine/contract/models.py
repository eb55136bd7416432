"""Which model answers, and how it samples. A dict in `engine/models` maps `type` to the class that does it."""

from typing import Annotated, Literal

from pydantic import Field

from engine.contract.base import Positive, Section


class VllmModel(Section):
    """A Hugging Face folder served by vLLM inside the actor."""

    type: Literal["vllm"]
    path: str
    """Folder, or the name of a model that a package carries (`smollm2-135m-instruct`)."""
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    max_model_len: Positive = 2048
    """Tokens of prompt and answer together; a longer prompt ends as `too_long`."""


class FakeModel(Section):
    """Answers by rule, for unit tests: echoes `replies` in turn, or the last message."""

    type: Literal["fake"]
    path: str = "fake"
    replies: tuple[str, ...] = ()
    max_model_len: Positive = 2048


Model = Annotated[VllmModel | FakeModel, Field(discriminator="type")]


class Sampling(Section):
    """How a teacher samples."""

    n: Positive = 1
    """Answers per prompt, each with its own seed and ending."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    greedy_first: bool = False
    """The first of the n samples is greedy, whatever the temperature of the others."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Positive = 128
    seed: int = 0
    """Base seed; each sample's own seed is a hash of it, the prompt and the sample index."""
