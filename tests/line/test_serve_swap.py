"""The shipped server process with real engines: a promotion and a rollback while it answers, and a kill with two engines loaded."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from serve_world import Process, mails, promote_tiny, wait_for

from engine.release.registry import Registry
from engine.storage.folder import Folder
from jobs.commands.sql import Views

pytestmark = pytest.mark.timeout(1200)


class Caller(threading.Thread):
    """Sends tasks one after the other, and keeps what came back."""

    def __init__(self, server: Process) -> None:
        super().__init__(daemon=True)
        self.server, self.is_stopping = server, False
        self.replies: list[tuple[int, Any]] = []

    def run(self) -> None:
        texts = [row["text"] for row in mails()]
        while not self.is_stopping:
            self.replies.append(self.server.task(texts[len(self.replies) % len(texts)]))

    def stop(self) -> None:
        """Wait for the last reply."""
        self.is_stopping = True
        self.join(120)


def test_a_promotion_and_a_rollback_while_it_answers(tmp_path: Path) -> None:
    registry, kept = promote_tiny(tmp_path), tmp_path / "records"
    server = Process(registry, "--records", str(kept), "--deadline", "300")
    try:
        server.wait_until_ready()
        old = server.get("/readyz")[1]["deployment"]
        alone = [server.task(row["text"])[1]["output"] for row in mails()[:3]]
        callers = [Caller(server) for _ in range(2)]
        for caller in callers:
            caller.start()
        promote_tiny(tmp_path, "later")
        new = wait_for(server, None, other_than=old)
        for caller in callers:  # at least one whole request after the swap
            count = len(caller.replies)
            while len(caller.replies) < count + 2:
                time.sleep(0.05)
        assert server.get("/readyz")[1]["previous"] == old
        children = psutil.Process(server.process.pid).children()
        assert sum("spawn_main" in " ".join(child.cmdline()) for child in children) == 2  # two engines

        Registry(Folder(str(tmp_path / "registry")), "orders").rollback()
        started = time.monotonic()
        wait_for(server, old)
        print(f"the old model answers {time.monotonic() - started:.2f} s after the rollback")
        for caller in callers:
            caller.stop()
        replies = [reply for caller in callers for reply in caller.replies]
        assert {status for status, _ in replies} == {200}
        assert {body["deployment"] for _, body in replies} == {old, new}
        assert [server.task(row["text"])[1]["output"] for row in mails()[:3]] == alone
        server.process.kill()
        server.process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive  # the engines have ended with the server
        rows = Views(str(kept)).rows("select deployment, count(*) filter (status != 200) as bad from requests group by 1")
        assert {row["deployment"] for row in rows} == {old, new} and all(row["bad"] == 0 for row in rows)
    finally:
        server.rest()
