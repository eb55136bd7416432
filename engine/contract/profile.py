"""The cluster profile: where a contract runs. It is part of no recipe, so it can be changed at any time."""

from pathlib import Path

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section
from engine.contract.load import parse, read_yaml

BLOCKS_EACH = 32  # blocks for each actor, if there are as many batches: then all actors end at about the same time
BLOCK_ROWS = 2048  # answers in a block: a shard of 0.3 MB if they are short, of 80 MB if all have the greatest length


class Pool(Section):
    """A pool of equal actors or tasks."""

    actors: Positive = 1
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    """GPUs of one actor. A fraction shares a GPU; with more than one, vLLM splits each layer over them (tensor parallelism)."""
    pipeline: Positive = 1
    """Stages of pipeline parallelism, each with `gpus` whole GPUs: for a model that is too large for one node."""
    batch: Positive = 32
    """Rows that an actor gets at once. In bfloat16 another composition of a batch can change a sampled token."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Memory of vLLM's KV cache."""
    max_num_seqs: Positive = 32
    """Sequences that vLLM decodes at the same time."""
    hang_seconds: float = Field(default=1800, gt=0)
    """Longest time for a batch, or to load. An engine that takes longer is killed, and a new one repeats the batch."""

    def block(self, rows: int, *, answers: int = 1) -> int:
        """Return the size in rows of a block, a multiple of the batch, for a table of `rows` rows that become `answers` rows each.

        With few rows a block is one batch, so that all actors are busy. With many it is larger: a block costs Ray some ms of a
        core, and its driver a few KB.
        """
        batches = min(rows // (self.batch * self.actors * BLOCKS_EACH), BLOCK_ROWS // (self.batch * answers))
        return self.batch * max(1, batches)

    @model_validator(mode="after")
    def stages_have_whole_gpus(self) -> "Pool":
        if self.pipeline > 1 and (self.gpus < 1 or self.gpus != int(self.gpus)):
            raise ValueError(f"pipeline: found {self.pipeline} stages of {self.gpus:g} GPUs, expected whole GPUs for each stage")
        return self


class Ray(Section):
    """How Ray is started or reached."""

    address: str = "local"
    """`local` starts a cluster and ends it; `auto` or `host:port` joins a running cluster."""
    num_cpus: Positive | None = None
    """Logical CPUs of a local cluster: more than all actors need, or Ray Data waits for ever."""
    object_store_gib: float = Field(default=0.5, gt=0)
    """Memory of a local cluster's object store."""


class Profile(Section):
    """One pool for each kind of work."""

    name: str
    ray: Ray = Ray()
    ledger: str | None = None
    """Folder or URL of a ledger that runs share, so that none pays for an answer that another has paid for. By default each run
    has its own."""
    teacher: Pool = Pool()
    judge: Pool = Pool()
    embedder: Pool = Pool()
    cpu: Pool = Pool()
    trainer: Pool = Pool()
    evaluator: Pool = Pool()

    @model_validator(mode="after")
    def stages_are_for_pools_that_answer(self) -> "Profile":
        staged = {"embedder": self.embedder, "cpu": self.cpu, "trainer": self.trainer, "evaluator": self.evaluator}
        for name, pool in staged.items():
            if pool.pipeline > 1:
                raise ValueError(f"{name}.pipeline: found {pool.pipeline}, expected 1: only teacher and judge have stages")
        return self


def load_profile(path: Path) -> Profile:
    """Return the profile in the YAML file `path`.

    Raises:
        ContractError: the file is missing, is not YAML, or has an unknown key or a value out of range.
    """
    return parse(Profile, read_yaml(path), where=path)
