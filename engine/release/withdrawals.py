"""Rows that were withdrawn: recorded once in a registry, for all its contracts. No release that learnt them is promoted again."""

import getpass
import io
import re
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Protocol

import pyarrow.parquet as pq
from pydantic import ValidationError

from engine.contract.prompts import Withdrawn
from engine.errors import GateRefused, StorageError
from engine.records.release import WithdrawalEvent
from engine.release import learnt
from engine.storage.folder import Folder

FOLDER = "withdrawals"
NUMBERED = re.compile(r"\d{8}\.json")


class Holds(Protocol):
    """What is to be released."""

    @property
    def student(self) -> str: ...
    @property
    def files(self) -> Mapping[str, str | bytes]: ...


class Withdrawals:
    """The withdrawals of a registry."""

    def __init__(self, registry: Folder) -> None:
        self.folder = registry / FOLDER

    def events(self) -> list[WithdrawalEvent]:
        """Return all withdrawals, oldest first.

        Raises:
            StorageError: one cannot be read.
        """
        names = [name for name in self.folder.files(deep=False) if NUMBERED.fullmatch(name)]
        try:
            return [WithdrawalEvent.model_validate_json(self.folder.read(name)) for name in names]
        except ValidationError as error:
            raise StorageError(f"{self.folder}: a withdrawal cannot be read: {error}. Restore it from a copy.") from None

    def add(self, order: Withdrawn, why: str) -> WithdrawalEvent:
        """Record a withdrawal; return it, or the earlier one of the same rows.

        Raises:
            StorageError: the registry cannot be written.
        """
        [(field, value)] = [(name, given) for name, given in order if given is not None]
        while True:
            events = self.events()
            if same := next((event for event in events if (event.field, event.value) == (field, value)), None):
                return same
            event = WithdrawalEvent.model_validate({**stamp(), "field": field, "value": value, "why": why})
            if self.folder.create(f"{len(events) + 1:08d}.json", event.model_dump_json(indent=1).encode()):
                return event

    def refuse(self, package: Holds) -> None:
        """Raise GateRefused if the package learnt from rows that were withdrawn."""
        data = package.files.get(learnt.FILE)
        if isinstance(data, bytes):
            file = pq.ParquetFile(io.BytesIO(data))
            self._refuse(package.student, [(event, learnt.count(file, order_of(event))) for event in self.events()])

    def refuse_release(self, release: Folder, student: str) -> None:
        """Raise GateRefused if a release learnt from rows that were withdrawn, or if nobody knows whether it did."""
        found = [(event, learnt.held(release, order_of(event))) for event in self.events()]
        if any(rows is None for _, rows in found):
            raise GateRefused(
                f"{release}: does not list what {student!r} learnt from, as an earlier version made it, and the registry has "
                f"{len(found)} withdrawals: it may have learnt withdrawn rows. Promote it again from its run, which lists them, or "
                "another student."
            )
        self._refuse(student, [(event, rows or 0) for event, rows in found])

    def _refuse(self, student: str, found: list[tuple[WithdrawalEvent, int]]) -> None:
        lines = [
            f"  {event.field} {event.value}: {rows} prompts, withdrawn {event.time[:10]}: {event.why}"
            for event, rows in found
            if rows
        ]
        if lines:
            orders = ", ".join(f"{{{event.field}: {event.value}}}" for event, rows in found if rows)
            raise GateRefused(
                "\n".join([f"{student!r} learnt from rows that were withdrawn:", *lines])
                + f"\nTrain a descendant without them: prompts.withdrawn: [{orders}] in the contract, and a new run folder."
            )


def order_of(event: WithdrawalEvent) -> Withdrawn:
    """Return the rows that `event` names, as a contract names them."""
    return Withdrawn.model_validate({event.field: event.value})


def stamp() -> dict[str, str]:
    """Return `id`, `time` and `who` of a new event."""
    now = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    return {"id": uuid.uuid4().hex[:12], "time": f"{seconds}.{now % 10**9 // 1000:06d}Z", "who": _who()}


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"?@{socket.gethostname()}"
