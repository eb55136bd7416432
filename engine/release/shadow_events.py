"""Events of comparisons in shadow, beside the history of champions: `<registry>/<contract>/shadow/<number>.json`.

They have a numbering of their own, made as that of the history is: an event is the creation of the file of the next number, which
one of several writers does. The history goes without them, so that nothing that reads champions must know of them.
"""

import re

from pydantic import ValidationError

from engine.contract.serving import Shadow
from engine.errors import StorageError
from engine.records.shadow import ShadowEvent, ShadowState, ShadowView
from engine.release.withdrawals import stamp
from engine.storage.folder import Folder

NUMBERED = re.compile(r"\d{8}\.json")


class ShadowEvents:
    """The events of one contract."""

    def __init__(self, registry: Folder, contract: str) -> None:
        self.folder, self.contract = registry / contract / "shadow", contract

    def add(self, state: ShadowState, view: ShadowView, section: Shadow) -> ShadowEvent:
        """Record what a comparison says; return the event.

        Raises:
            StorageError: the registry cannot be written.
        """
        event = ShadowEvent(
            **stamp(), contract=self.contract, word=state.word, because=view.because, agreement=view.agreement, state=state,
            floor=section.floor, margin=section.margin, delta=section.delta,
        )  # fmt: skip
        number = len(self._names())
        while not self.folder.create(f"{(number := number + 1):08d}.json", event.model_dump_json(indent=1).encode()):
            pass
        return event

    def all(self) -> list[ShadowEvent]:
        """Return all events, oldest first.

        Raises:
            StorageError: one cannot be read.
        """
        try:
            return [ShadowEvent.model_validate_json(self.folder.read(name)) for name in self._names()]
        except ValidationError as error:
            raise StorageError(
                f"{self.folder}: an event cannot be read: {error}. Restore it from a copy of the registry."
            ) from None

    def _names(self) -> list[str]:
        return sorted(name for name in self.folder.files(deep=False) if NUMBERED.fullmatch(name))
