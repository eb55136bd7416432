"""Where `rayleigh watch` keeps what it knows, and what a server shows of that in its metrics."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.rows import Row
from engine.serving.router import Asked
from engine.serving.service import Reply

if TYPE_CHECKING:
    from engine.serving.app import App

FOLDER, KEPT, SUMMARY = "monitor", "state.json", "summary.json"


class MonitorNumbers:
    """A companion of the server: the numbers of the monitor that reads its records. The file is read when it has changed."""

    def __init__(self, records: Path) -> None:
        self.path = records / FOLDER / SUMMARY
        self.changed, self.summary = 0.0, {}

    def start(self, app: "App") -> None:
        """Remember whose metrics these are."""
        self.app = app

    async def stop(self) -> None:
        """Do nothing."""

    def replied(self, asked: Asked, reply: Reply) -> None:
        """Do nothing."""

    def numbers(self) -> dict[str, float]:
        """Return what is known of the deployment that answers now; {} if nothing watches the records."""
        monitor = self._monitor()
        if monitor is None:
            return {}
        alarms = monitor["alarms"]
        return {
            "monitor_age_seconds": max(0.0, time.time() - self.changed),
            "monitor_observations_total": monitor["rows"],
            "monitor_testing": bool(monitor["source"]),
            "monitor_e_value": min(monitor["e_value"], 1e300),
            "monitor_e_value_limit": monitor["limit"],
            "monitor_alarms": len(alarms),
        }

    def about(self) -> Row:
        """Return the alarms."""
        monitor = self._monitor()
        return {"alarms": [alarm["signal"] for alarm in monitor["alarms"]]} if monitor else {}

    def _monitor(self) -> Row | None:
        try:
            if (changed := self.path.stat().st_mtime) != self.changed:
                self.summary, self.changed = json.loads(self.path.read_bytes()), changed
        except (OSError, ValueError):
            return None
        now = self.app.service.deployment.fingerprint
        return next((each for each in self.summary["monitors"] if each["deployment"] == now), None)
