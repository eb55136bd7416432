"""Follows the champion of a registry: loads a new one beside that which answers, and lets it take over between two requests.

The champion before stays loaded, if wanted, so that a rollback is a change of one variable. While a new one loads, none is kept: at
most two deployments are in memory. What cannot be loaded, or may not answer under the options of the server, is said, shown by
/readyz and /metrics, and tried again later; the deployment that answers goes on meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.errors import RayleighError
from engine.rows import Row
from engine.serving.answering import Answering
from engine.serving.router import Asked
from engine.serving.service import Reply, Service

if TYPE_CHECKING:
    from engine.serving.app import App

log = logging.getLogger(__name__)

EVERY = 0.5  # seconds between two looks at the registry
FIRST_RETRY, LONGEST_RETRY = 30.0, 1800.0  # seconds after which a champion that could not be loaded is tried again
LOADED = 0.1  # seconds between two looks at an engine that loads

Champion = Callable[[], str | None]
"""Returns the folder of the champion's release; None if there is none. Called in a thread; may raise RayleighError or OSError."""
Prepare = Callable[[str, Service], Service]
"""Returns a service of a release that is not started yet, beside the one that answers. Called in a thread.

Raises RayleighError: it may not take over."""


class Follower:
    """A companion of the server that swaps its deployment."""

    def __init__(self, champion: Champion, prepare: Prepare, *, keep: bool = True, every: float = EVERY) -> None:
        """`keep`: whether the champion before stays loaded."""
        self.champion, self.prepare, self.keep, self.every = champion, prepare, keep, every
        self.before: Answering | None = None  # it is loaded, and does not answer
        self.refused, self.reason = "", ""  # champion that cannot be served, and why
        self.retry_at, self.delay = 0.0, FIRST_RETRY
        self.wanted, self.loading = "", ""
        self.is_stale = False  # whether the registry cannot be read
        self.retiring: set[asyncio.Task[None]] = set()

    def start(self, app: "App") -> None:
        """Begin to follow."""
        self.app = app
        self.task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """End, and end the engine that was kept."""
        self.task.cancel()
        await asyncio.gather(self.task, *self.retiring, return_exceptions=True)
        if self.before:
            await self._retire(self.before)

    def replied(self, asked: Asked, reply: Reply) -> None:
        """Do nothing."""

    def numbers(self) -> dict[str, float]:
        """Return whether the champion of the registry answers."""
        behind = bool(self.wanted) and self.wanted != self.app.service.deployment.folder
        return {
            "champion_behind": behind, "champion_refused": bool(self.refused), "champion_loading": bool(self.loading),
            "registry_unreadable": self.is_stale, "previous_loaded": self.before is not None,
        }  # fmt: skip

    def about(self) -> Row:
        """Return the champion of the registry, and why it does not answer if it does not."""
        state = {"champion": self.wanted, "loading": self.loading, "refused": self.refused, "reason": self.reason}
        kept = self.before.service.deployment.fingerprint if self.before else None
        return {"registry": {**state, "unreadable": self.is_stale}, "previous": kept}

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.every)
            try:
                await self._look()
            except Exception:
                log.exception("following the registry failed; it is tried again")

    async def _look(self) -> None:
        """Compare what answers with the champion, and swap."""
        try:
            wanted = await asyncio.to_thread(self.champion)
        except (RayleighError, OSError) as error:
            if not self.is_stale:
                log.warning("the registry cannot be read, %s goes on: %s", self.app.service.deployment.fingerprint[:16], error)
            self.is_stale = True
            return
        self.is_stale, self.wanted = False, wanted or ""
        if not self.app.service.is_ready or self.app.is_draining:
            return
        if wanted is None or wanted == self.app.service.deployment.folder:
            self.refused = self.reason = ""
        elif self.before and wanted == self.before.service.deployment.folder and self.before.service.is_ready:
            self._swap(self.before)
        elif wanted != self.refused or time.monotonic() >= self.retry_at:
            await self._load(wanted)

    async def _load(self, wanted: str) -> None:
        """Load a champion, and let it take over if it is still the champion."""
        if wanted != self.refused:
            self.delay = FIRST_RETRY
        running, self.loading = self.app.service, wanted
        log.info("the champion is now %s: it loads, %s answers meanwhile", wanted, running.deployment.fingerprint[:16])
        try:
            service = await asyncio.to_thread(self.prepare, wanted, running)
            await self._forget()  # of three engines one is too many
            await self._started(service)
        except (RayleighError, OSError, ValueError) as error:
            log.error("%s cannot take over, %s goes on: %s", wanted, running.deployment.fingerprint[:16], error)
            self.refused, self.reason, self.retry_at = wanted, str(error), time.monotonic() + self.delay
            self.delay = min(2 * self.delay, LONGEST_RETRY)
            return
        finally:
            self.loading = ""
        with suppress(RayleighError, OSError):  # an unreadable registry takes nothing back
            self.wanted = await asyncio.to_thread(self.champion) or ""
        if self.wanted == wanted:
            self._swap(Answering(service))
        else:  # another one was promoted meanwhile
            await self._retire(Answering(service))

    async def _started(self, service: Service) -> None:
        """Return once the engines of a service are loaded.

        Raises:
            RayleighError, OSError, ValueError: they cannot be.
        """
        service.start()
        try:
            while not service.is_ready:
                if fault := service.fault:
                    raise fault if isinstance(fault, RayleighError | OSError | ValueError) else OSError(f"{type(fault)}: {fault}")
                await asyncio.sleep(LOADED)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(service.stop, 0.0, keep=self.app.service))
            raise

    def _swap(self, answering: Answering) -> None:
        before = self.app.swap(answering)
        self.before, self.refused, self.reason = None, "", ""
        if self.keep:
            self.before = before
        else:
            self._retire_later(before)
        fingerprints = [each.service.deployment.fingerprint[:16] for each in (answering, before)]
        log.info("deployment %s answers now, no more %s%s", *fingerprints, ", which stays loaded" if self.keep else "")

    async def _forget(self) -> None:
        before, self.before = self.before, None
        if before:
            await self._retire(before)

    def _retire_later(self, answering: Answering) -> None:
        task = asyncio.get_running_loop().create_task(self._retire(answering))
        self.retiring.add(task)
        task.add_done_callback(self.retiring.discard)

    async def _retire(self, answering: Answering) -> None:
        """End a deployment once its requests have ended."""
        limits, service, now = self.app.limits, answering.service, self.app.service
        until = time.monotonic() + limits.deadline + limits.body_seconds
        while answering.in_flight and time.monotonic() < until:
            await asyncio.sleep(LOADED)
        await asyncio.to_thread(service.stop, limits.deadline, keep=now)
        if service.close != now.close:
            with suppress(Exception):
                await service.close()
