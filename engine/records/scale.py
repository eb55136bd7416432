"""What each stage of a run takes at a size: measured by `rayleigh bench scale`, and expected by `rayleigh plan --rows`."""

from engine.records.base import Record


class StageUse(Record):
    """What one stage took at one size."""

    stage: str
    """Name of the job."""
    rows: int
    """Prompts of the run; each is answered once."""
    blocks: int
    """Blocks in which the stage `candidates` answers them."""
    batches: int = 0
    """Batches in which it asks a model."""
    seconds: float
    """Of the whole command, with the start of its processes."""
    cpu_seconds: float
    """Of all processes: driver, workers, raylets and head."""
    rows_per_core: float
    """Rows divided by `cpu_seconds`."""
    shuffled_bytes: int
    """Bytes that tasks left in the object store for other tasks, without objects below 100 KB, which Ray keeps elsewhere."""
    spilled_bytes: int
    """Bytes that the object store moved to disk."""
    objects: int
    """Objects that were written to the object store."""
    references: int
    """Most references to objects that the driver held at one time, of samples every second."""
    storage_bytes: int
    """Bytes of the stage's artifact in storage, with what it added to the ledger."""
    files: int
    """Files of these."""
    list_calls: int | None = None
    """Requests for a listing to an object store; null if not counted."""
    driver_bytes: int
    """Largest resident memory of the driver."""
    head_bytes: int
    """Largest resident memory of Ray's control service (GCS)."""
    task_bytes: int
    """Largest resident memory of a worker that runs tasks, with the shared memory that it has read. Actors are not counted."""
    largest_task: str = ""
    """What that worker ran when it grew, in Ray's words."""


class Line(Record):
    """A quantity as a linear function of rows, blocks and batches."""

    fixed: float = 0.0
    """At no row."""
    row: float = 0.0
    """For each row that the stage reads."""
    block: float = 0.0
    """For each block of `candidates`."""
    batch: float = 0.0
    """For each batch of `candidates`."""
    unseen: float = 0.0
    """Growth a row that the measured sizes cannot tell from none; 0 if there is growth."""


class StageModel(Record):
    """What one stage takes, as lines."""

    stage: str
    """Name of the job."""
    lines: dict[str, Line]
    """Quantity of `StageUse` -> its line. `list_calls` is missing if it was not counted."""


class ScaleModel(Record):
    """Coefficients of the cost model, with what they were measured on."""

    sizes: tuple[int, ...]
    """Rows of the measured sizes."""
    raylets: int
    """Raylets that they ran on."""
    cores: int
    """Cores of that machine."""
    commit: str
    """Commit of Rayleigh."""
    text_length: float
    """Characters of prompt and answer of a row."""
    reference_bytes: float
    """Memory of the driver for each reference to an object that it holds."""
    stages: tuple[StageModel, ...]
    """Every stage that was measured."""


class Figure(Record):
    """An expected number; null where nothing is known."""

    value: float | None
    """The number itself."""
    basis: str
    """What it rests on, in words."""


class StageCost(Record):
    """What one stage is expected to take."""

    name: str
    """Name of the job."""
    rows: float | None
    """Rows that it reads; examples of a student."""
    figures: dict[str, Figure]
    """tokens, gpu_hours, cpu_hours, shuffled_bytes, spilled_bytes, storage_bytes, files, list_calls, objects, driver_bytes,
    head_bytes, task_bytes, money."""


class Misfit(Record):
    """Memory that a stage needs in one process, and no node of the profile has."""

    stage: str
    """Name of the job."""
    who: str
    """The process: `driver`, `head` or `one task`."""
    needs: float
    """Bytes that it is expected to hold."""
    has: float
    """Bytes that it has: of the head, or, of a task, what the object store leaves of a node's memory, divided by the tasks that run
    there at the same time."""
    node: str
    """That node, in words."""
    rows: float
    """Rows up to which it fits."""


class ScalePlan(Record):
    """The expected cost of a run of `rows` prompts."""

    run: str
    """Run folder of the pilot."""
    contract: str
    """Name of the contract."""
    profile: str
    """Name of the profile."""
    currency: str
    """Currency of all money."""
    rows: int
    """Prompts."""
    pilot_prompts: int
    """Prompts that the pilot answered."""
    coefficients: str
    """File of the coefficients, with the sizes that they were measured at."""
    stages: tuple[StageCost, ...]
    """Every job, in the order of the pipeline."""
    total: dict[str, float | None]
    """Figure -> sum over the stages that it is known of; null without one. Memory is the largest."""
    unknown: tuple[str, ...]
    """What is in no sum, in words."""
    misfits: tuple[Misfit, ...]
    """What does not fit into the profile's nodes; () if all does, or if the profile declares none."""
    notes: tuple[str, ...] = ()
    """What the plan cannot hold against the profile, in words."""
