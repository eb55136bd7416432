"""Models and how they sample. `engine.inference.engine.ENGINES` maps `type` to the class of the engine."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, NonEmpty, Positive, Section, added


class VllmModel(Section):
    """A Hugging Face folder served by vLLM inside the actor."""

    type: Literal["vllm"]
    path: NonEmpty
    """Folder, or its URL (`s3://bucket/model`), or the name of a bundled model (`smollm2-135m-instruct`)."""
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    max_model_len: Positive = 2048
    """Tokens of prompt and answer together; a longer prompt ends as `too_long`."""
    batch_invariant: bool = False
    """Use vLLM's batch-invariant kernels, with which an answer does not depend on the rest of its batch. Slower; GPUs only: on CPUs
    `dtype: float32` serves for greedy answers."""


class LlamaCppModel(Section):
    """A Hugging Face folder whose weights are one GGUF file, served by llama.cpp in a process of its own, on CPUs."""

    type: Literal["llama_cpp"]
    path: NonEmpty
    """Folder with `config.json`, tokenizer and one file `*.gguf`: prompts are token ids of the folder's own chat template."""
    max_model_len: Positive = 2048
    """Tokens of prompt and answer together; a longer prompt ends as `too_long`."""
    packages: str | None = None
    """Folder of packages with `llama-cpp-python`, made by `uv pip install --target`; relative to the contract's folder or absolute;
    null: it is in this environment."""


class EndpointModel(Section):
    """A model behind a server that speaks OpenAI's chat completions."""

    type: Literal["endpoint"]
    url: str = Field(pattern=r"^https?://[^\s/]\S*$")
    """Base URL with the version: `http://host:8000/v1`."""
    path: NonEmpty
    """The server's name of the model."""
    revision: str = ""
    """Any text that changes when the weights behind the name change: with the name it is all that identifies them."""
    key_env: str | None = Field(default=None, pattern="^[A-Z_][A-Z0-9_]*$")
    """Environment variable of the actors that holds the key. The key itself is never in a contract or an artifact."""
    retries: int = Field(default=4, ge=0)
    """Further attempts of a request that failed, was lost or got an invalid reply: an answer is paid at most once more than this.
    A request that was turned away (429) cost nothing and does not count."""
    deadline_seconds: float = Field(default=300, gt=0)
    """Seconds for one request with all attempts and waits, from when it is first sent."""
    logprobs: bool = True
    """Request log probabilities; without them answers have no confidence, and the model cannot judge."""
    omit: tuple[Literal["max_tokens", "temperature", "top_p", "seed", "response_format"], ...] | None = None
    """Parameters that the server does not take, and that are not sent."""
    rename: dict[Literal["max_tokens", "seed"], Annotated[str, Field(pattern="^[a-z_]+$")]] | None = None
    """Parameter -> its name at the server, such as `max_tokens: max_completion_tokens`."""


class FakeModel(Section):
    """Answers by rule, for tests: echoes `replies` in turn, or the last message."""

    type: Literal["fake"]
    path: str = "fake"
    replies: tuple[str, ...] = ()
    dies_on: str = ""
    """A message that contains this text kills the process, as a fault in a kernel does."""
    hangs_on: str = ""
    """A message that contains this text is never answered."""
    max_model_len: Positive = 2048


class StudentModel(Section):
    """A student that another run has trained, as a teacher: its weights, precision, instruction and answer schema are taken from
    there, and it gets no worked examples. Its answers are keyed by the weights, wherever the run lies."""

    type: Literal["student"]
    run: NonEmpty
    """Run folder; relative to the contract's folder, absolute, or a URL."""
    name: Name
    """The student's name in that run."""
    max_model_len: Positive = 2048
    """Tokens of prompt and answer together; no more than the model has positions."""

    @property
    def path(self) -> str:
        """What the model is called in messages and tables."""
        return f"{self.run}/students/{self.name}"


class ReleaseModel(Section):
    """A released student, as a teacher: like `student`, from a registry."""

    type: Literal["release"]
    registry: NonEmpty
    """Folder of champions, such as `runs/registry`; relative to the contract's folder, absolute, or a URL."""
    contract: Name
    """Name of the contract under which it was released."""
    version: str | None = Field(default=None, pattern="^[0-9a-f]{6,32}$")
    """First digits of the release's fingerprint; null: the champion."""
    max_model_len: Positive = 2048
    """Tokens of prompt and answer together; no more than the model has positions."""

    @property
    def path(self) -> str:
        """What the model is called in messages and tables."""
        return f"{self.registry}/{self.contract}/{self.version or 'champion'}"


class LabelsModel(Section):
    """The references of the prompts, as a teacher: a prompt with a reference gets it as its one answer, any other none. No model
    is asked, and the report has no row of it, as its answers to the holdout would be the holdout's references."""

    type: Literal["labels"]

    @property
    def path(self) -> str:
        """What the model is called in messages and tables."""
        return "references of the prompts"


Model = Annotated[VllmModel | LlamaCppModel | EndpointModel | FakeModel, Field(discriminator="type")]
"""A model that is asked."""
TrainedModel = StudentModel | ReleaseModel
"""A model that this program has trained. `jobs/steps/trained.py` finds its folder; the engine gets a `VllmModel`."""
TeacherModel = Annotated[
    VllmModel | LlamaCppModel | EndpointModel | FakeModel | StudentModel | ReleaseModel | LabelsModel, Field(discriminator="type")
]
"""Whose answers the prompts get."""


class Sampling(Section):
    """Sampling parameters."""

    n: Positive = 1
    """Answers per prompt, each with its own seed."""
    stop_after_verified: Positive | None = None
    """Skip the remaining samples of a prompt once this many ended by themselves and passed `judges.checks`; null asks for all n."""
    stop_when_agreed: int | None = added(None, ge=2)
    """Ask for so many samples first, and for the remaining ones only where these are not all equal: the prompts whose agreement
    tells something get the most samples. Without effect beside references."""
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
        if self.stop_when_agreed is not None and self.stop_when_agreed > self.n:
            raise ValueError(f"stop_when_agreed: found {self.stop_when_agreed}, expected at most n, which is {self.n}")
        if self.stop_when_agreed and self.stop_after_verified:
            raise ValueError("stop_when_agreed: found stop_after_verified, too; take one of them out")
        return self
