"""Losses that are announced, or that pass: a node that is drained, a driver that gets SIGTERM, a network that is cut for a while.

Nothing is paid for twice. Batches are held at the server until the loss has been announced, so that they are in flight."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest

from engine.rows import HOLDOUT, PROMPT, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, rows_digest
from tests.line import kills_world as world
from tests.network import Network

PROMPTS, HOLD_AFTER, DELAY = 80, 40, 0.02
CUT_SECONDS = 20  # longer than clients of S3 repeat by themselves
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # pipes, sockets
]


class Server(world.Server):
    """Holds the teachers' requests after the first HOLD_AFTER until `gate` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        super().__init__()

    def hold(self, request: dict[str, Any]) -> None:
        if request["model"] == "teacher" and self.bill["teacher"].total() > HOLD_AFTER:
            self.gate.wait()
        super().hold(request)


class Site(world.Site):
    """Runs lie in a local folder or behind the network."""

    server: Server

    def begin(self, name: str, root: str) -> tuple[Path, Folder]:
        """Return the folder of the logs of a new run and its run folder, with finished prompts."""
        self.server.gate.clear()
        self.server.begin(delay=DELAY)
        run = self.folder / name
        folder = Folder(f"{root}/{name}")
        context = self.context(folder, "prompts")  # pyright: ignore[reportArgumentType]
        context.writer.put("prompts", self.prompts, PROMPT)
        context.writer.put("holdout", from_rows([], HOLDOUT), HOLDOUT)
        context.writer.finish(identify(context), RowCounts(len(self.prompts), {"prompts": len(self.prompts)}))
        return run, folder

    def begin_driver(self, run: Path, folder: Folder) -> subprocess.Popen:
        """Start `rayleigh run` up to the candidates."""
        words = [sys.executable, "-m", "jobs.cli", "run", "contract.yaml", str(folder), "--profile", "profile.yaml"]
        with (self.folder / f"{run.name}.log").open("a") as log:
            options: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.drivers.append(subprocess.Popen([*words, "--until", "candidates"], cwd=self.folder, **options))
        return self.drivers[-1]

    def held(self, run: Path, driver: subprocess.Popen) -> None:
        """Wait until both teachers hold a batch."""
        self._wait(run, driver, HOLD_AFTER + world.ACTORS)
        time.sleep(2)  # until each has sent what it sends at once, and Ray Data has given each another batch

    def teachers(self, node: Any) -> list[psutil.Process]:
        return [process for process in world.tree(node) if "Teacher" in world.title(process)]


def wait_for(condition: Any, what: str, site: Site, run: Path) -> None:
    deadline = time.monotonic() + world.STUCK
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{site.output(run)}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def network(s3: str) -> Iterator[Network]:
    """A network in front of the S3 stand-in, which all processes of the cluster use."""
    before = fsspec.config.conf["s3"]
    found = Network(int(before["endpoint_url"].rpartition(":")[2]))
    fsspec.config.conf["s3"] = {**before, "endpoint_url": f"http://127.0.0.1:{found.port}"}
    yield found
    found.set("open")
    fsspec.config.conf["s3"] = before


@pytest.fixture(scope="module")
def site(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(world.ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("FSSPEC_S3", json.dumps(fsspec.config.conf["s3"]))
        server = Server()
        site = Site(tmp_path_factory.mktemp("loss"), server, prompts=PROMPTS)
        try:
            yield site
        finally:
            server.gate.set()
            site.close()
            server.shutdown()


@pytest.fixture(scope="module")
def digest(site: Site) -> str:
    """The digest of the rows that one process makes without a loss."""
    site.server.gate.set()
    return hex_digest(rows_digest(site.unbroken(site.folder / "unbroken")))


def require_whole(site: Site, folder: Folder, digest: str) -> None:
    """Require the rows of an unbroken run, and that no answer was paid for twice."""
    found = load_artifact(folder / "candidates")
    assert found and found.table("candidates").digest == digest
    bill = site.server.bill["teacher"]
    assert len(bill) == bill.total() == world.SAMPLES * PROMPTS


def test_a_drained_node_finishes_its_batch_and_begins_no_other(site: Site, digest: str) -> None:
    run, folder = site.begin("drained", str(site.folder))
    driver = site.begin_driver(run, folder)
    site.held(run, driver)
    [node, *_] = [node for node in site.nodes if site.teachers(node)]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "300"]
    command = [Path(sys.executable).with_name("ray"), "drain-node", "--address", site.cluster.address, "--node-id", node.node_id]
    subprocess.run([*command, *reason], check=True)
    time.sleep(2)  # in which Ray Data hears of it
    site.server.gate.set()
    wait_for(lambda: not site.teachers(node), "an actor stays on a node that is drained", site, run)
    site._kill_node(node)
    site.finish(run, driver)
    require_whole(site, folder, digest)


def test_a_driver_that_gets_sigterm_finishes_its_batches(site: Site, digest: str) -> None:
    run, folder = site.begin("stopped", str(site.folder))
    driver = site.begin_driver(run, folder)
    site.held(run, driver)
    driver.send_signal(signal.SIGTERM)
    wait_for(lambda: "finishing the batches in flight" in site.output(run), "the driver says nothing", site, run)
    time.sleep(2)
    assert driver.poll() is None, site.output(run)
    site.server.gate.set()
    assert driver.wait(timeout=60) == 130, site.output(run)
    paid = site.server.bill["teacher"].total()
    assert HOLD_AFTER < paid < world.SAMPLES * PROMPTS
    site.finish(run, site.begin_driver(run, folder))
    require_whole(site, folder, digest)


def test_a_network_that_is_cut_for_a_while_costs_nothing(site: Site, network: Network, digest: str) -> None:
    run, folder = site.begin("cut", f"s3://bucket/{site.folder.name}")
    driver = site.begin_driver(run, folder)
    site.held(run, driver)
    network.set("refused")  # the batches in flight are answered, and cannot be recorded
    site.server.gate.set()
    time.sleep(CUT_SECONDS)
    assert driver.poll() is None, site.output(run)
    network.set("open")
    site.finish(run, driver)
    require_whole(site, folder, digest)
