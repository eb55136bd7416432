"""Files of the registry, `lineage.json`, and the output of `rayleigh promote` and `rayleigh rollback`."""

from typing import Literal

from pydantic import Field

from engine.records.base import Record, unless
from engine.records.gate import GateNumber, Word
from engine.records.record import FileEntry, RowCounts


class RegistryEvent(Record):
    """One promotion or rollback. The last one of the history says which student is the champion."""

    id: str
    """12 hexadecimal digits."""
    kind: Literal["promote", "rollback"]
    """What was done."""
    contract: str
    """Name of the contract."""
    student: str
    """Student that is the champion after the event."""
    fingerprint: str
    """Fingerprint of the student's artifact."""
    release: str
    """Folder of the release, relative to the contract's folder in the registry."""
    time: str
    """ISO 8601, UTC."""
    before: str | None = None
    """Id of the event that made the previous champion, to which a rollback returns; null for the first."""
    word: Word | None = None
    """Promotion: the gate's word on the student; null in events of an earlier version."""
    by: str | None = None
    """Promotion: `prove`, or `point` if point values decided."""
    why: str | None = None
    """Promotion of an undecided student: the reason that was given."""
    from_student: str | None = None
    """Rollback: the student that was the champion before it."""
    from_fingerprint: str | None = None
    """Rollback: the fingerprint of that student."""
    from_id: str | None = None
    """Rollback: the id of the event that had made it the champion."""
    to_id: str | None = None
    """Rollback: the id of the event that had made the student the champion to which it returns."""
    who: str | None = None
    """User and host."""


class WithdrawalEvent(Record):
    """Rows that may not be used any more: `withdrawals/<number>.json` of the registry, for all its contracts."""

    id: str
    """12 hexadecimal digits."""
    time: str
    """ISO 8601, UTC."""
    field: Literal["prompt", "source", "licence"]
    """What names the rows."""
    value: str
    why: str
    """The reason that was given."""
    who: str | None = None
    """User and host."""


class HeldBy(Record):
    """A release that learnt withdrawn rows."""

    contract: str
    """Name of the contract."""
    student: str
    fingerprint: str
    rows: int | None
    """Prompts that it learnt from; null if the release was made before they were listed."""
    champion: bool
    """Whether it is the champion of its contract."""


class RunHolds(Record):
    """A run folder that holds withdrawn rows."""

    run: str
    """Path or URL."""
    prompts: int
    """Rows of the table prompts, and of the holdout."""
    candidates: int
    """Answers to them; the ledger of the run holds these, too."""
    examples: int
    """Examples of the dataset."""


class RunUnknown(Record):
    """A run folder of which it cannot be told whether it holds withdrawn rows."""

    run: str
    """Path or URL."""
    why: str
    """Why it cannot be read."""


class Withdrawal(Record):
    """Output of `rayleigh withdraw`."""

    event: WithdrawalEvent | None
    """What was recorded; null with `--dry-run`."""
    releases: tuple[HeldBy, ...]
    runs: tuple[RunHolds, ...]
    unknown: tuple[RunUnknown, ...] = ()
    """Runs that cannot be read: look for yourself, or remove them."""
    setting: str
    """The entry of `prompts.withdrawn` with which a run goes without the rows."""


class LookEvent(Record):
    """A student was looked at on the part of the holdout that is kept closed (`gate.confirm`)."""

    id: str
    """12 hexadecimal digits."""
    contract: str
    """Name of the contract."""
    time: str
    """ISO 8601, UTC."""
    student: str
    """Name in the contract."""
    fingerprint: str
    """Fingerprint of the student's artifact."""
    part: str
    """Hash of the part's prompts."""
    who: str | None = None
    """User and host."""


class ReleaseManifest(Record):
    """`release.json`, which is written last: a release without it is incomplete."""

    student: str
    """Name in the contract."""
    fingerprint: str
    """Fingerprint of the student's artifact."""
    files: tuple[FileEntry, ...]
    """Files of the release, by path, such as `model/config.json`; releases of an earlier version list the model folder alone."""
    holdout: str = Field(default="", exclude_if=unless(""))
    """Hash of the holdout's prompts on which it was evaluated, as in a certificate; empty in releases of an earlier version."""


class LineageEntry(Record):
    """One artifact that a release was made from (`lineage.json`: artifact -> entry)."""

    folder: str
    """Path or URL of the artifact."""
    fingerprint: str
    """Hash of recipe and rows."""
    inputs: dict[str, str]
    """Artifact that was read -> its fingerprint."""
    row_counts: RowCounts
    packages: dict[str, str]
    """Package -> version."""
    commit: str | None = None
    """Commit of the code; ends with + if files were changed since."""


class ReportsMetrics(Record):
    """Metrics of the reports step."""

    champion: RegistryEvent | None = None
    """Champion of the contract at the time of the report; it is not part of the artifact's fingerprint."""


class ChampionChange(Record):
    """What `rayleigh promote` and `rayleigh rollback` have in common."""

    contract: str
    """Name of the contract."""
    student: str
    """Champion after the command."""
    fingerprint: str
    """Fingerprint of the student's artifact."""
    release: str
    """Folder or URL of the release."""


class Promotion(ChampionChange):
    """Output of `rayleigh promote`."""

    changed: bool
    """False if the student was the champion already."""
    before: str | None = None
    """Student that was the champion before the command."""
    passing: tuple[str, ...] = ()
    """Students that pass the gate, smallest first."""
    refusals: dict[str, tuple[GateNumber, ...]] = Field(default_factory=dict)
    """Student -> requirements that it misses."""
    undecided: dict[str, tuple[GateNumber, ...]] = Field(default_factory=dict)
    """Student that is neither passed nor refused -> its undecided requirements."""
    word: Word = "pass"
    """The gate's word on the student."""
    by: str = "point"
    """How the gate decided: `prove`, or `point` by point values."""
    why: str | None = None
    """The reason for promoting an undecided student."""


class Rollback(ChampionChange):
    """Output of `rayleigh rollback`."""

    before: str
    """Student that was the champion before the command."""
