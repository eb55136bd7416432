"""Teachers answer the holdout while students train: the report finds their answers in the ledger, and their engines loaded."""

import logging
from collections.abc import Sequence
from threading import Lock, Thread

from engine.contract.profile import Profile
from engine.distributed import session
from engine.distributed.capacity import Wanted
from engine.distributed.in_process import get, put
from engine.distributed.placed_actor import PlacedActor
from engine.distributed.placement import fits_together
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget, split
from engine.evaluation.flow import Kept, start
from engine.evaluation.waves import gib, want
from engine.inference.room import free_gib
from engine.rows import Row

log = logging.getLogger(__name__)

KEPT_GIB = 6.0  # of this machine's memory for each actor beside: what a training takes is not known before it runs


def fitting(targets: Sequence[EvalTarget], profile: Profile, beside: Sequence[Wanted]) -> list[EvalTarget]:
    """Return those of `targets`, in order, whose engines have room beside `beside` on the nodes that run, wherever Ray places the
    first of them, in what other jobs leave free: what is begun ahead must never keep a training waiting. None without a cluster."""
    if not session.is_running():
        return []
    groups, chosen, wants = session.running_groups(free=True), list[EvalTarget](), list(beside)
    free = free_gib() - KEPT_GIB * sum(each.actors for each in beside)
    for target in targets[: profile.evaluator.actors]:
        more, size = want(target, profile), gib(target, profile)
        if size <= max(free, 0.0) and fits_together([*wants, more], groups):
            chosen.append(target)
            wants.append(more)
            free -= size
    return chosen


class Ahead:
    """Engines that answer the batches that are not timed, one after the other, until they are taken over."""

    def __init__(self, rows: Sequence[Row], profile: Profile, ledger: EvalLedger, *, timed: int) -> None:
        """`timed` of the HOLDOUT `rows` are left, and the first batch of the others."""
        self.rows, self.size, self.timed = put(list(rows)), len(rows), timed
        self.profile, self.ledger = profile, ledger
        self.engines: dict[str, PlacedActor] = {}
        self.lock, self.is_taken = Lock(), False

    def begin(self, target: EvalTarget) -> None:
        """Start the engine of `target`, which begins once it is loaded."""
        pool = self.profile.evaluator_of(target.name)
        self.engines[target.name] = start(target, pool, self.ledger)
        parts = len(split(self.size, self.timed, pool.batch)[1]) - 1
        Thread(target=self._answer, args=(target.name, parts), name=f"ahead {target.name}", daemon=True).start()

    def take(self) -> Kept:
        """Return the ledger, and the engines that are still there: each finishes the batch that it works on."""
        with self.lock:
            self.is_taken = True
            return Kept(self.ledger, self.engines)

    def _answer(self, name: str, parts: int) -> None:
        try:
            for part in range(parts):
                with self.lock:
                    if self.is_taken or not session.is_running():  # a call would start a new cluster
                        return
                    answered = self.engines[name].actor.answer.remote(self.rows, self.timed, part, parts)
                get(answered)
            self._give_back(name)
        except Exception as error:  # of the model, or of Ray as it ends: the report asks for the rest, and says what is wrong
            log.info("%s stops to answer ahead: %s", name, error)

    def _give_back(self, name: str) -> None:
        """End an engine that has answered all where others may wait for its place, or a GPU that does nothing would be paid for."""
        with self.lock:
            if not self.is_taken and self.profile.ray.address != "local":
                self.engines.pop(name).stop()
