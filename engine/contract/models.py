"""Models and sampling. The dict ENGINES in `engine/inference/engine.py` maps `type` to a class."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section


class VllmModel(Section):
    """A Hugging Face folder served by vLLM inside the actor."""

    type: Literal["vllm"]
    path: str
    """Folder, or the name of a model that a package carries (`smollm2-135m-instruct`)."""
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    max_model_len: Positive = 2048
    """Tokens of prompt and answer together; a longer prompt ends as `too_long`."""


class EndpointModel(Section):
    """A model behind a server that speaks OpenAI's chat completions."""

    type: Literal["endpoint"]
    url: str = Field(pattern="^https?://")
    """Up to and with the version: `http://host:8000/v1`."""
    path: str
    """The name by which the server knows the model."""
    revision: str = ""
    """Anything that changes when the weights behind the name do: with the name it is all that identifies them."""
    key_env: str | None = Field(default=None, pattern="^[A-Z_][A-Z0-9_]*$")
    """Environment variable of the actors that holds the key. The key itself never stands in a contract or an artifact."""
    retries: int = Field(default=4, ge=0)
    """Further attempts for a request that failed, was lost or garbled: what an answer can cost at most, less one. A request that
    was turned away (429) cost nothing and does not count."""
    deadline_seconds: float = Field(default=300, gt=0)
    """For one request, all attempts and waiting together, from when it first leaves."""
    logprobs: bool = True
    """Ask for log probabilities; without them answers have no confidence, and the model cannot judge."""


class FakeModel(Section):
    """Answers by rule, for tests: echoes `replies` in turn, or the last message."""

    type: Literal["fake"]
    path: str = "fake"
    replies: tuple[str, ...] = ()
    dies_on: str = ""
    """A message that contains this kills the process, as a fault in a kernel does."""
    hangs_on: str = ""
    """A message that contains this is never answered."""
    max_model_len: Positive = 2048


Model = Annotated[VllmModel | EndpointModel | FakeModel, Field(discriminator="type")]


class Sampling(Section):
    """Sampling parameters."""

    n: Positive = 1
    """Answers per prompt, each with its own seed."""
    stop_after_verified: Positive | None = None
    """Skip the remaining samples of a prompt once this many ended by themselves and passed `judges.checks`; null asks for all n."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    greedy_first: bool = False
    """The first of the n samples is greedy, whatever the temperature of the others."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Positive = 128
    seed: int = 0
    """Base seed; each sample's own seed is a hash of it, the prompt and the sample index."""

    @model_validator(mode="after")
    def stop_is_within_n(self) -> "Sampling":
        if self.stop_after_verified is not None and self.stop_after_verified > self.n:
            raise ValueError(f"stop_after_verified: found {self.stop_after_verified}, expected at most n, which is {self.n}")
        return self
