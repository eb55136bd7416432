"""The cluster profile: the hardware on which a contract runs. It is no part of a recipe or a cache key."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section
from engine.contract.sections import parse, read_yaml, refuse

BLOCKS_EACH = 32  # blocks per actor, if there are so many batches: then all actors end at about the same time
BLOCK_ROWS = 2048  # answers per block at most: a shard of 0.3 MB if they are short, of 80 MB if all are as long as allowed
HEADS = ("head", "headgroup")  # names of the head's group for `ray up` and for KubeRay


class Pool(Section):
    """A pool of equal actors or tasks; the resources are those of one of them."""

    actors: Positive = 1
    """Actors, or tasks at once. `{min: 2, max: 8}`: as many as there is work for, and the run starts with the fewest."""
    min_actors: Positive | None = None
    """Fewest actors; what `min` of `actors` sets. Default: `actors`."""
    cpus: float = Field(default=1, ge=0)
    """Logical CPUs."""
    gpus: float = Field(default=0, ge=0)
    """GPUs; a fraction shares a GPU. More than one: vLLM's tensor parallel size."""
    accelerator: str | None = None
    """Type of the GPU in Ray's words, such as `H100`: actors are placed on nodes with this one only."""
    labels: dict[str, str] = Field(default={})
    """Labels of Ray that a node must have, such as `{ray.io/market-type: on-demand}`."""
    resources: dict[str, float] = Field(default={})
    """Custom resources of Ray that an actor takes."""
    pipeline: Positive = 1
    """vLLM's pipeline parallel size: stages with `gpus` GPUs each, for a model that is too large for one node."""
    batch: Positive = 32
    """Rows per call. With bfloat16 the other rows of a batch change the last digits of logits, and so a greedy or sampled token now
    and then."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Size of vLLM's key-value cache on a CPU, in GiB."""
    max_num_seqs: Positive = 32
    """Most sequences that vLLM decodes at the same time."""
    hang_seconds: float = Field(default=1800, gt=0)
    """Longest time for a batch, or for loading. After that the process is killed, and another repeats the batch. Without effect
    for a server, whose requests have `deadline_seconds` each."""
    straggler_factor: float | None = Field(default=3, gt=1)
    """An actor whose calls take more than this many times as long as those of the others of its pool is replaced if another
    node has room: it finishes its batch, and another begins the next one there. null: never."""

    def at_most(self, actors: int) -> "Pool":
        """Return the pool with no more than `actors` actors."""
        return self.model_copy(update={"actors": min(self.actors, actors), "min_actors": min(self.fewest, actors)})

    def block(self, rows: int, *, answers: int = 1) -> int:
        """Return the rows of one Ray Data block, a multiple of `batch`, for `rows` rows that become `answers` rows each.

        Few rows travel in blocks of one batch, so that all actors are busy; many in larger blocks, because each block costs Ray
        some milliseconds of a core and some KB on the driver.
        """
        batches = min(rows // (self.batch * self.actors * BLOCKS_EACH), BLOCK_ROWS // (self.batch * answers))
        return self.batch * max(1, batches)

    @property
    def fewest(self) -> int:
        """Actors with which the pool begins to work."""
        return self.min_actors or self.actors

    @model_validator(mode="before")
    @classmethod
    def range_of_actors(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("actors"), dict):
            found = raw["actors"]
            if set(found) != {"min", "max"}:
                raise ValueError(f"actors: found the keys {list(found)}, expected a number, or min and max")
            return {**raw, "actors": found["max"], "min_actors": found["min"]}
        return raw

    @model_validator(mode="after")
    def fewest_is_not_more(self) -> "Pool":
        if self.min_actors is not None and self.min_actors > self.actors:
            raise ValueError(f"actors: found min {self.min_actors} above max {self.actors}")
        return self

    @model_validator(mode="after")
    def stages_have_whole_gpus(self) -> "Pool":
        if self.pipeline > 1 and (self.gpus < 1 or self.gpus != int(self.gpus)):
            raise ValueError(f"pipeline: found {self.pipeline} stages of {self.gpus:g} GPUs, expected whole GPUs for each stage")
        return self


class Ray(Section):
    """The Ray cluster."""

    address: str = "local"
    """`local` starts a cluster on this machine and stops it afterwards, where the work is too large for one process; `auto` or
    `host:port` joins a running one; `none` never starts one, and refuses what needs it."""
    in_process_gib: float | None = Field(default=None, ge=0)
    """Most memory, in GiB, of work that one process does in threads, without a cluster, if `address` is `local` or `none`. Default:
    half of what is available; 0: always a cluster."""
    num_cpus: Positive | None = None
    """Logical CPUs of a local cluster; must exceed those of all actors, or Ray Data waits forever. Default: the cores."""
    object_store_gib: float = Field(default=0.5, gt=0)
    """Shared memory of a local cluster's object store, in GiB."""
    fork_workers: bool = False
    """Whether the workers of a local cluster without GPUs are forks of a process that has imported what they need, on Linux: they
    start in 50 ms of a core, not in seconds. The profile `laptop` says so."""


class WeightsCache(Section):
    """Where each node keeps the weights that it fetches from URLs."""

    folder: str = "~/.cache/rayleigh/weights"
    """Folder on a disk of the node; `~` is the home of the node's user."""
    gib: float | None = Field(default=None, gt=0)
    """Most GiB that it holds; what was not used for longest is removed first, and never what a process uses. Default: half of the
    disk."""


class NodeGroup(Section):
    """Equal nodes that the cluster has, or that its autoscaler may start."""

    name: Name
    """Name of the group in manifests and messages."""
    cpus: float = Field(gt=0)
    """CPUs of a node that Ray may use."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of a node."""
    memory_gib: float = Field(default=16, gt=0)
    """Memory of a node's pod, in GiB."""
    min: int = Field(default=0, ge=0)
    """Nodes that always run."""
    max: Positive = 1
    """Most nodes."""
    accelerator: str | None = None
    """Type of its GPUs in Ray's words, such as `H100`."""
    labels: dict[str, str] = Field(default={})
    """Ray's labels of its nodes."""
    resources: dict[str, float] = Field(default={})
    """Custom resources of a node."""
    spot: bool = False
    """Whether the provider may take the nodes back: cheaper, and a node's batches in flight are paid twice then."""
    machines: dict[Literal["aws", "gcp"], str] = Field(default={})
    """Provider -> its name of the machine, for `ray up`."""

    @property
    def node_labels(self) -> dict[str, str]:
        """Labels of a node: its own, and those that Ray's node has by itself."""
        found = {"ray.io/market-type": "spot" if self.spot else "on-demand", "ray.io/node-group": self.name}
        of_type = {"ray.io/accelerator-type": self.accelerator} if self.accelerator else {}
        return {**found, **of_type, **self.labels}

    @model_validator(mode="after")
    def fewest_is_not_more(self) -> "NodeGroup":
        if self.min > self.max:
            raise ValueError(f"min: found {self.min}, which is more than max, {self.max}")
        return self


class Head(Section):
    """The head node: it holds the cluster's state and the driver, and no work of a run."""

    cpus: float = Field(default=4, gt=0)
    """CPUs of its pod; Ray gives none of them to tasks."""
    memory_gib: float = Field(default=16, gt=0)
    """Memory of its pod, in GiB."""
    machines: dict[Literal["aws", "gcp"], str] = Field(default={})
    """Provider -> its name of the machine, for `ray up`."""


class Profile(Section):
    """The cluster, and a pool for each kind of work."""

    name: str
    """Shown in messages."""
    ray: Ray = Ray()
    head: Head = Head()
    """The head node, in manifests."""
    nodes: tuple[NodeGroup, ...] = ()
    """Groups of nodes that the cluster has or can grow to: what a run needs is held against them before it starts, and manifests
    are written of them. Default: not known."""
    ledger: str | None = None
    """Folder or URL of a ledger of paid answers that several runs share. By default each run has its own."""
    weights_cache: WeightsCache = WeightsCache()
    """Each node's cache of models behind URLs."""
    teacher: Pool = Pool()
    """Engines that answer prompts."""
    judge: Pool = Pool()
    """Engines that score answers."""
    embedder: Pool = Pool()
    """Sentence embeddings."""
    cpu: Pool = Pool()
    """Reading, checks, deduplication, writing."""
    trainer: Pool = Pool()
    """One training worker; `actors` and `batch` are not used."""
    evaluator: Pool = Pool()
    """Engines that answer the holdout, one for each model; for a teacher as many as its pool has actors, where each gets three
    batches or more and memory has room. At most `actors` are loaded at the same time."""
    exporters: dict[Literal["gguf", "int4"], str] = Field(default={})
    """Exporter -> folder of packages of its own, made by `uv pip install --target`; on a cluster all nodes must see it. Default:
    the folder of that name in `exporters` beside the folder of unpacked models."""
    teachers: dict[str, Pool] = Field(default={})
    """Name of a teacher -> its pool in place of `teacher`, such as whole nodes for a large one; also where it scores for `capture`
    and `on_policy`."""
    trainers: dict[str, Pool] = Field(default={})
    """Name of a student -> the pool of its training workers in place of `trainer`."""
    evaluators: dict[str, Pool] = Field(default={})
    """Name of a teacher, a student or the champion -> the pool of its engine in place of `evaluator`, such as one with several GPUs
    and stages for a large teacher; `actors` is not used."""

    @model_validator(mode="after")
    def stages_are_for_pools_that_answer(self) -> "Profile":
        for name, pool in {"embedder": self.embedder, "cpu": self.cpu, "trainer": self.trainer}.items():
            if pool.pipeline > 1:
                raise ValueError(
                    f"{name}.pipeline: found {pool.pipeline}, expected 1; only teacher, judge and evaluator may have stages"
                )
        return self

    @property
    def pools(self) -> dict[str, Pool]:
        """Section -> pool: the common ones, then those by name."""
        common = ("teacher", "judge", "embedder", "cpu", "trainer", "evaluator")
        by_name = {"teachers": self.teachers, "trainers": self.trainers, "evaluators": self.evaluators}
        named = {f"{section}.{name}": pool for section, pools in by_name.items() for name, pool in pools.items()}
        return {**{section: getattr(self, section) for section in common}, **named}

    def group_of(self, pool: Pool) -> NodeGroup | None:
        """Return the group with the fewest GPUs, then CPUs, of which a node holds one actor of `pool`; None if none does."""
        fitting = [
            group
            for group in self.nodes
            if group.cpus >= pool.cpus
            and group.gpus >= pool.gpus
            and (not pool.accelerator or not pool.gpus or group.accelerator == pool.accelerator)
            and pool.labels.items() <= group.node_labels.items()
            and all(group.resources.get(kind, 0) >= amount for kind, amount in pool.resources.items())
        ]
        return min(fitting, key=lambda group: (group.gpus, group.cpus)) if fitting else None

    def machine_share(self, pool: Pool, blocks: int | None = None) -> float:
        """Return which share of a machine one actor of `pool` is priced as.

        On a cluster: what it takes of a node of its group, by the scarcer of CPUs and GPUs, each stage of a pipeline a share of its
        own; 1 where no declared node holds it. Of this machine all actors that work have an equal share, at most one for each of
        `blocks`.
        """
        if self.ray.address in ("local", "none"):
            return 1 / min(pool.actors, max(1, blocks or pool.actors))
        group = self.group_of(pool)
        if group is None:
            return 1.0
        return max(pool.cpus / group.cpus, pool.gpus / group.gpus if pool.gpus else 0.0) * pool.pipeline

    def teacher_of(self, name: str) -> Pool:
        """Return the pool of the teacher `name`."""
        return self.teachers.get(name, self.teacher)

    def trainer_of(self, name: str) -> Pool:
        """Return the pool of one training worker of the student `name`."""
        return self.trainers.get(name, self.trainer)

    def evaluator_of(self, name: str) -> Pool:
        """Return the pool of the engine with which the model `name` answers the holdout."""
        return self.evaluators.get(name, self.evaluator)


def load_profile(path: Path) -> Profile:
    """Return the profile in the YAML file `path`.

    Raises:
        ContractError: the file is missing, is not YAML, or has an unknown key, a value out of range, or one that no cluster can
            follow.
    """
    profile = parse(Profile, read_yaml(path), where=path)
    refuse(_unplaceable(profile), where=path)
    return profile


def _unplaceable(profile: Profile) -> Iterator[str]:
    """Yield what a new run must not ask for; that an earlier run has asked for it does not matter to its artifacts."""
    for name, pool in profile.pools.items():
        if pool.gpus > 1 and pool.gpus != int(pool.gpus):
            yield f"{name}.gpus: found {pool.gpus:g}, expected a fraction of one GPU, or whole GPUs: Ray shares only one."
        if pool.pipeline > 1 and name.startswith("trainers."):
            yield f"{name}.pipeline: found {pool.pipeline}, expected 1; only teacher, judge and evaluator may have stages."
    yield from group_problems(profile.nodes)


def group_problems(groups: Sequence[NodeGroup]) -> Iterator[str]:
    """Yield what is wrong with the names of groups of nodes."""
    names = [group.name for group in groups]
    for at, name in enumerate(names):
        if name in HEADS:
            yield f"nodes.{at}.name: found {name}, which is the group of the head node; give it another."
        if name in names[:at]:
            yield f"nodes.{at}.name: found {name} a second time; give each group a name of its own."
