"""An actor of a teacher that is much slower than its peer is replaced on another node: the same rows, and nothing paid twice."""

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, rows_digest
from tests.line import kills_world as world

PROMPTS = 400  # so many that some are left when the slow actor has had the calls that a verdict needs
DELAY, SLOW, FACTOR = 0.1, 0.5, 2.0
"""Seconds of an answer, of which a call has 20, four at once, so 0.5 and 2.5 s. A busy machine may add 1.5 s to each call of both,
and the slow actor is found; the other would need 5 s for a call to be found in its stead."""
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # pipes, sockets
]


class Server(world.Server):
    """Answers the process that asks as a teacher first after `begin` slower than the others."""

    def __init__(self) -> None:
        self.by_thread = threading.local()
        self.asked: dict[int, list[float]] = {}
        """Process -> when it asked as a teacher first and last, in the order of their first requests."""
        super().__init__()

    def begin(self, *, delay: float) -> None:
        super().begin(delay=delay)
        self.asked.clear()

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.by_thread.port, self.by_thread.pid = client_address[1], None  # each connection has a thread
        super().finish_request(request, client_address)

    def hold(self, request: dict[str, Any]) -> None:
        if request["model"] == "teacher" and self.delay:
            pid = self.by_thread.pid = self.by_thread.pid or self._client()
            with self.lock:
                self.asked.setdefault(pid, [time.monotonic()] * 2)[1] = time.monotonic()
                is_first = next(iter(self.asked)) == pid
            time.sleep(SLOW if is_first else self.delay)

    def _client(self) -> int:
        """Return the process at the other end of this thread's connection."""
        connections = psutil.net_connections("tcp4")
        [pid] = [one.pid for one in connections if one.pid and one.laddr and one.laddr.port == self.by_thread.port]
        return pid


@pytest.fixture
def site(tmp_path: Path) -> Iterator[world.Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(world.ROOT), os.environ.get("PYTHONPATH")])))
        server = Server()
        site = world.Site(tmp_path, server, prompts=PROMPTS)
        profile = yaml.safe_load((tmp_path / "profile.yaml").read_text())
        profile["teacher"]["straggler_factor"] = FACTOR
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile))
        try:
            yield site
        finally:
            site.close()
            server.shutdown()


def test_a_slow_actor_is_replaced_on_another_node(site: world.Site) -> None:
    server = site.server
    assert isinstance(server, Server)
    digest = hex_digest(rows_digest(site.unbroken(site.folder / "unbroken")))
    server.begin(delay=DELAY)
    run = site.folder / "run"
    site.prepare(run)
    node_of: dict[int, str] = {}
    driver = site.start(run)
    while driver.poll() is None:
        node_of |= {process.pid: node.node_id for node in site.nodes for process in world.tree(node)}
        time.sleep(0.2)
    site.finish(run, driver)

    logs = "".join(log.read_text() for log in run.glob("**/*.log"))
    said = re.findall(r"replacing a slow actor.*on node (\S+), (\w+), takes (\S+) s a call", logs)
    assert len(said) == 1, site.output(run)
    slow, _, new = server.asked  # no other process has asked
    assert said[0][1] == node_of[slow] != node_of[new]
    assert float(said[0][2]) > SLOW
    assert server.asked[slow][1] < server.asked[new][0]

    found = load_artifact(Folder(str(run / "candidates")))
    assert found and found.table("candidates").digest == digest
    bill = server.bill["teacher"]
    assert len(bill) == bill.total() == world.SAMPLES * PROMPTS
