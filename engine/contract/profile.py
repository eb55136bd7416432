"""The cluster profile: where a contract runs. Never part of any identity."""

from pathlib import Path

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section
from engine.contract.load import parse, read_yaml

BLOCKS_EACH = 32  # of an actor, if there are so many batches: then all end at about the same time
BLOCK_ROWS = 2048  # answers: a shard of 0.3 MB if they are short, of 80 MB if all are as long as a contract allows


class Pool(Section):
    """A pool of equal actors or tasks."""

    actors: Positive = 1
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    """GPUs of one actor; a fraction shares a GPU. Several: vLLM cuts each layer into so many shards."""
    pipeline: Positive = 1
    """vLLM cuts the layers into so many stages, each with `gpus` whole GPUs: for a model that is too large for one node."""
    batch: Positive = 32
    """Rows handed over at once. With bfloat16 the composition of a batch can move a sampled token."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    max_num_seqs: Positive = 32
    """Sequences that vLLM decodes at the same time."""
    hang_seconds: float = Field(default=1800, gt=0)
    """An engine that takes longer for a batch, or to load, hangs: its process is ended, and another asks again."""

    def block(self, rows: int, *, answers: int = 1) -> int:
        """Return how many of `rows` rows, of which each becomes `answers`, travel together: whole batches, to be cut out again.

        Few rows travel batch by batch, so that all actors are busy; many in larger blocks, for a block costs Ray some ms of a
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
    """`local` starts one and ends it; `auto` or `host:port` joins a running cluster."""
    num_cpus: Positive | None = None
    """Logical CPUs of a local start: more than actors, or Ray Data waits for ever."""
    object_store_gib: float = Field(default=0.5, gt=0)


class Profile(Section):
    """Pools by the name of the work they do."""

    name: str
    ray: Ray = Ray()
    ledger: str | None = None
    """Folder or URL of paid work that runs share: what one has paid for, no other pays again. By default each has its own."""
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
