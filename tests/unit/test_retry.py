"""Stores behind a network that breaks: what is repeated and for how long, and what is said and kept when it is given up."""

import asyncio
import errno
import json
import pickle
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import fsspec
import httpx
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error
from test_contract_url import ask
from typer.testing import CliRunner

from engine import retry
from engine.contract.models import FakeModel
from engine.contract.profile import Pool
from engine.errors import InputError, StorageError, StoreUnreachable
from engine.inference.client import Batch, ClientSpec, ModelClient
from engine.inference.ledger import Ledger
from engine.inference.token_budget import TokenUsage
from engine.readers.formats import read
from engine.readers.paths import data_files
from engine.rows import PROMPT, content_id
from engine.storage.folder import Folder
from engine.storage.identity import file_identities
from engine.storage.local_copy import local_copy
from engine.storage.shards import read_shard, write_shard
from engine.storage.sums import file_entries
from jobs import workspace as workspaces
from jobs.cli import app
from jobs.commands.serve_follow import ChampionOf
from jobs.places import run_folder
from jobs.view.app import Settings, application
from jobs.view.found import lines
from jobs.view.sources import Sources
from tests.network import Network
from tests.unit.made_run import workspace

SCHEMA = pa.schema([("id", pa.string())])
ROWS = pa.table({"id": [f"{number:064x}" for number in range(3000)]}, SCHEMA)
DATA = b"x" * 100_000


@pytest.fixture(scope="module")
def network():
    """A network in front of an S3 stand-in of this file's own, whose clients repeat little by themselves."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    before, found = fsspec.config.conf.get("s3"), Network(server.get_host_and_port()[1])
    fsspec.config.conf["s3"] = {
        "endpoint_url": f"http://127.0.0.1:{found.port}", "key": "k", "secret": "s", "client_kwargs": {"region_name": "eu-west-1"},
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }  # fmt: skip
    with suppress(FileExistsError):  # of another stand-in of this process, which has the same memory
        fsspec.filesystem("s3", config_kwargs={}).mkdir("bucket", create_parents=True, region_name="eu-west-1")
    yield found
    found.close()
    fsspec.config.conf.pop("s3")
    if before:
        fsspec.config.conf["s3"] = before
    server.stop()


@pytest.fixture
def store(network, tmp_path, monkeypatch):
    """A folder behind the network, which is open at first; pauses take no time, and are listed in `network.pauses`."""
    network.set("open")
    network.pauses = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setattr(retry, "_reached", set())
    monkeypatch.setattr(retry, "_given_up", set())
    monkeypatch.setattr(retry, "sleep", network.pauses.append)
    folder = Folder(f"s3://bucket/{tmp_path.name}")
    folder.write("a/x.bin", DATA)
    return folder


def mend_after(network, pauses, monkeypatch):
    """Open the network in the pause of that number."""

    def sleep(seconds):
        network.pauses.append(seconds)
        if len(network.pauses) >= pauses:
            network.set("open")

    monkeypatch.setattr(retry, "sleep", sleep)


def source(store):
    store.write("seeds.jsonl", b"".join(json.dumps({"input": f"text {number}"}).encode() + b"\n" for number in range(500)))
    return f"{store}/seeds.jsonl"


def copied(store):
    path, copy = local_copy(store)
    with copy:
        return {each.name: each.read_bytes() for each in path.iterdir()}


CALLS = {
    "read": lambda store: store.read("a/x.bin"),
    "measure": lambda store: store.measure("a/x.bin").bytes,
    "exists": lambda store: (store.exists("a/x.bin"), store.exists("a"), store.exists("b"), Folder("s3://bucket").exists()),
    "files": lambda store: (store.files(), (store / "a").files(deep=False), (store / "b").files(deep=False)),
    "write": lambda store: (store.write("b.bin", DATA), store.files()),
    "create": lambda store: (store.create("c.bin", b"1"), store.create("c.bin", b"2"), store.read("c.bin")),
    "remove": lambda store: (store.remove("a/x.bin"), store.files()),
    "rename": lambda store: ((store / "a").rename_to(store / "d"), store.files()),
    "shard": lambda store: read_shard(store, write_shard(store, ROWS, SCHEMA)).num_rows,
    "copy": lambda store: copied(store / "a"),
    "sums": lambda store: file_entries(store / "a", lambda name: True, "memo"),
    "source": lambda store: len(list(read(data_files(source(store))[0].url))),
    "identities": lambda store: next(iter(file_identities([source(store)], root="."))).rpartition("/")[2],
}


@pytest.mark.parametrize(
    ("call", "mode"),
    [
        *((call, "refused") for call in CALLS),
        *((call, mode) for call in ("read", "files", "write", "create", "shard", "source") for mode in ("torn", "busy")),
        *((call, "silent") for call in ("read", "files", "write")),
    ],
)
def test_a_call_during_a_cut_gives_what_it_gives_without(call, mode, store, network, monkeypatch):
    if mode == "silent":  # its clients wait less; what is late by chance is repeated
        monkeypatch.setitem(fsspec.config.conf["s3"], "config_kwargs", {"retries": {"max_attempts": 0}, "read_timeout": 0.5})
        monkeypatch.setattr(retry, "SEND_SECONDS", 0.5)
        monkeypatch.setattr(retry, "SLOWEST", 2**20)
        store = Folder(str(store))
    calm = store / "calm"
    calm.write("a/x.bin", DATA)
    expected = CALLS[call](calm)
    (store / "cut").write("a/x.bin", DATA)
    mend_after(network, 2, monkeypatch)
    network.set(mode)
    assert CALLS[call](store / "cut") == expected
    assert len(network.pauses) >= 2


def test_a_read_that_is_torn_in_the_middle_goes_on(store, network, monkeypatch):
    with store.open("a/x.bin") as file:
        mend_after(network, 1, monkeypatch)
        network.torn_after = len(DATA) // 2
        network.set("torn")
        assert file.read() == DATA and network.pauses
    with store.open("a/x.bin") as file:
        assert (file.seek(99_000), len(file.read()), file.tell()) == (99_000, 1_000, 100_000)


def test_a_store_that_stays_away_is_given_up_and_the_message_names_it(store, network, monkeypatch):
    monkeypatch.setattr(retry, "LIMIT", 0.0)
    network.set("refused")
    with pytest.raises(StoreUnreachable, match=rf"{store}/a/x\.bin: the store cannot be reached: 2 attempts in .*run again"):
        store.read("a/x.bin")
    with pytest.raises(StoreUnreachable, match=f"{store}: the store cannot be reached: 1 attempts"):  # the wait is over for all
        store.files()
    network.set("open")
    assert store.read("a/x.bin") == DATA
    network.set("refused")
    with pytest.raises(StoreUnreachable, match="2 attempts"):
        store.read("a/x.bin")


def test_the_wait_has_growing_pauses_and_ends_in_time(store, network, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(retry, "monotonic", lambda: now[0])

    def sleep(seconds):
        network.pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(retry, "sleep", sleep)
    calls = []

    def call():
        calls.append(now[0])
        raise ConnectionResetError("gone")

    for limit, url in ((retry.LIMIT, str(store)), (retry.FIRST_LIMIT, "s3://never-reached/x")):
        now[0] = 0.0
        calls.clear()
        network.pauses.clear()
        with pytest.raises(StoreUnreachable):
            retry.with_retries(url, call)
        assert limit <= calls[-1] < limit + retry.LONGEST
        assert len(calls) < 30 and max(network.pauses) <= retry.LONGEST
        assert all(number >= 5 or pause <= 2**number for number, pause in enumerate(network.pauses))


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("x"), PermissionError("x"), OSError(errno.ENOSPC, "full"), ValueError("x"), IsADirectoryError("x")],
)
def test_what_waiting_does_not_mend_is_raised_at_once(error, store, network):
    with pytest.raises(type(error)):
        retry.with_retries(str(store), lambda: (_ for _ in ()).throw(error))
    with pytest.raises(StorageError, match="cannot be read"):
        store.read("gone.bin")
    assert network.pauses == []


def test_without_keys_a_store_says_so(store, network):
    from botocore.exceptions import NoCredentialsError

    with pytest.raises(StorageError, match="Unable to locate credentials"):
        retry.with_retries(str(store), lambda: (_ for _ in ()).throw(NoCredentialsError()))
    assert network.pauses == []


def test_a_source_that_cannot_be_reached_is_not_taken_for_missing(store, network, monkeypatch):
    monkeypatch.setattr(retry, "LIMIT", 0.0)
    url = source(store)
    assert file_identities([f"{store}/nothing.jsonl"], root=".") == {f"{store}/nothing.jsonl": "missing"}
    network.set("busy")
    with pytest.raises(StoreUnreachable):
        file_identities([url], root=".")
    network.set("open")
    with pytest.raises(InputError, match="found no file"):
        data_files(f"{store}/nothing.jsonl")


@pytest.fixture
def website(tmp_path):
    """A network in front of a web server that shows `tmp_path`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    found = Network(server.server_port)
    yield found
    found.close()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("mode", ["refused", "busy"])
def test_a_source_over_http_is_waited_for(mode, store, network, website, tmp_path, monkeypatch):
    (tmp_path / "seeds.jsonl").write_text('{"input": "x"}\n' * 500)
    url = f"http://127.0.0.1:{website.port}/seeds.jsonl"
    with pytest.raises(InputError, match="found no file"):
        data_files(f"{url}.gone.jsonl")
    network.pauses.clear()
    website.set(mode)
    monkeypatch.setattr(retry, "sleep", lambda seconds: network.pauses.append(seconds) or website.set("open"))
    assert len(list(read(data_files(url)[0].url))) == 500 and len(network.pauses) == 1
    monkeypatch.setattr(retry, "sleep", network.pauses.append)
    monkeypatch.setattr(retry, "LIMIT", 0.0)
    website.set(mode)
    with pytest.raises(StoreUnreachable):
        data_files(url)


def test_a_store_that_stopped_waiting_for_a_request_is_asked_again(store, network):
    lost = ClientError({"Error": {"Code": "RequestTimeout"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutObject")
    errors = [translate_boto_error(lost)]
    assert retry.with_retries(str(store), lambda: (_ for _ in ()).throw(errors.pop()) if errors else "there") == "there"
    assert len(network.pauses) == 1


def test_an_upload_over_a_slow_link_is_not_cut_off(monkeypatch):
    limits = []

    class Sending:
        def result(self, seconds):
            limits.append(seconds)
            raise TimeoutError

        def done(self):
            return False

        def cancel(self):
            pass

    monkeypatch.setattr(retry.asyncio, "run_coroutine_threadsafe", lambda *_: Sending())
    slow = SimpleNamespace(async_impl=True, loop=None, _pipe_file=lambda *_: None)
    data = bytes(80 * 2**20)
    with pytest.raises(TimeoutError, match=r"not sent within \d+ s"):
        retry.send(slow, "x", data)
    assert len(data) / (4e6 / 8) < limits[0] < 3600  # 4 Mbit/s


def test_who_asks_again_by_himself_does_not_wait(store, network, monkeypatch):
    store.write("runs/one/run.json", b"{}")
    sources, champion_of = Sources(f"{store}/runs"), ChampionOf(store / "registry" / "c")
    runs, view = sources.runs(), application(Settings(sources, "token"))
    assert len(runs) == 1 and champion_of() is None

    async def page():
        transport = httpx.ASGITransport(app=view)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as browser:
            return await browser.get("/token/")

    assert asyncio.run(page()).status_code == 200
    network.set("refused")
    with pytest.raises(StoreUnreachable, match="1 attempts"):
        champion_of()
    answer = asyncio.run(page())
    assert answer.status_code == 400 and "cannot be reached" in answer.text
    with retry.no_waiting():
        assert "cannot be reached" in lines(runs)[0].gate  # each read in a thread
    assert network.pauses == []
    mend_after(network, 2, monkeypatch)  # others of the process wait all the same
    assert store.read("a/x.bin") == DATA and len(network.pauses) == 2


def test_a_worker_knows_that_the_command_has_reached_the_store(store, network, monkeypatch):
    sent = pickle.dumps(store)
    monkeypatch.setattr(retry, "_reached", set())  # as in another process
    monkeypatch.setattr(retry, "FIRST_LIMIT", 0.0)
    mend_after(network, 3, monkeypatch)
    network.set("refused")
    assert pickle.loads(sent).read("a/x.bin") == DATA and len(network.pauses) == 3


def test_a_busy_store_does_not_hide_what_was_paid(store, network, monkeypatch):
    monkeypatch.setattr(retry, "LIMIT", 0.0)
    paid, keys = pa.schema([("prompt_id", pa.string()), ("key", pa.string())]), [f"{number:064x}" for number in (1, 2**252)]
    ledger = Ledger(store / "paid", paid, key="key", partition_key="prompt_id")
    for key in keys:
        with ledger.block([key]):
            ledger.record(pa.table({"prompt_id": [key], "key": [key]}, paid))
    network.set("busy")  # fsspec's `find` would list what a folder directly holds as nothing
    with pytest.raises(StoreUnreachable), ledger.block(keys):
        pass
    network.set("open")
    with ledger.block(keys):
        assert len(ledger.find(keys)) == 2


def test_a_write_that_is_cut_off_leaves_the_old_file_or_the_new_one(store, network, monkeypatch):
    monkeypatch.setattr(retry, "LIMIT", 0.0)
    new = b"y" * 300_000
    network.torn_after = 100
    network.set("torn")  # the answer is lost, the store has the file
    with pytest.raises(StoreUnreachable):
        store.write("a/x.bin", new)
    network.set("open")
    assert store.read("a/x.bin") in (DATA, new)
    assert store.files() == ["a/x.bin"]


def client(store):
    spec = ClientSpec(FakeModel(type="fake"), Pool(), None, store / "paid", store / "in-flight", store / "budget", payee="p")
    schema = pa.schema([("prompt_id", pa.string()), ("key", pa.string()), ("text", pa.string())])
    return ModelClient(spec, schema, prompt_id=content_id, crashed=lambda text: {"text": "crashed"})


def answer(one, texts, asked, network, cut=False):
    """Answer `texts` in batches of two; with `cut` the network goes while the second batch is asked."""

    def call(engine, batch):
        asked.append(list(batch))
        if cut and len(asked) == 2:
            network.set("refused")
        return Batch([{"text": text.upper()} for text in batch], TokenUsage(len(batch), 1, 1), [False] * len(batch))

    with one.block(map(content_id, texts)):
        return {key: row["text"] for key, row in one.answer({text: text for text in texts}, call, batch=2).items()}


def test_a_batch_that_cannot_be_recorded_for_a_while_is_asked_once(store, network, monkeypatch):
    asked = []
    mend_after(network, 3, monkeypatch)
    assert answer(client(store), "abcdef", asked, network, cut=True) == {key: key.upper() for key in "abcdef"}
    assert asked == [["a", "b"], ["c", "d"], ["e", "f"]] and len(network.pauses) >= 3


def test_a_batch_that_cannot_be_recorded_at_all_stops_the_run_and_only_it_is_paid_again(store, network, monkeypatch):
    monkeypatch.setattr(retry, "LIMIT", 0.0)
    asked = []
    with pytest.raises(StoreUnreachable, match=f"{store}/"):  # and the process lives: it was no crash of the engine
        answer(client(store), "abcdef", asked, network, cut=True)
    assert asked == [["a", "b"], ["c", "d"]]
    network.set("open")
    asked.clear()
    assert answer(client(store), "abcdef", asked, network) == {key: key.upper() for key in "abcdef"}
    assert asked == [["c", "d"], ["e", "f"]]


@pytest.fixture
def contract(store, tmp_path, monkeypatch):
    """The URL of a contract with its seeds behind the network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    workspace(str(tmp_path / "run"), tmp_path / "seeds")
    Folder("s3://bucket").fs.put(f"{tmp_path}/seeds/", f"{store}/", recursive=True)
    store.write("seeds.jsonl", b"".join(json.dumps({"input": f"{number} apples"}).encode() + b"\n" for number in range(50)))
    return f"{store}/toy.yaml"


def prompts(store, name):
    return workspaces.finished(store / name, "prompts").read("prompts", PROMPT).to_pylist()


def test_a_run_whose_store_fails_again_and_again_ends_as_one_without_failures(contract, store, network):
    ask("run", contract, f"{store}/calm", "--until", "prompts")
    network.torn_after = 200
    network.set("torn", failures=6)
    ask("run", contract, f"{store}/torn", "--until", "prompts")
    assert network.pauses and prompts(store, "torn") == prompts(store, "calm")


def test_a_run_whose_store_is_lost_stops_with_its_name_and_a_rerun_goes_on(contract, store, network, monkeypatch):
    ask("run", contract, f"{store}/calm", "--until", "prompts")
    monkeypatch.setattr(retry, "LIMIT", 0.0)
    stops = 0
    for connections in (1, 8, 20, 40, 70, 110, 10_000):
        network.cut_after(connections)
        result = CliRunner().invoke(app, ["run", contract, f"{store}/run", "--until", "prompts"])
        network.set("open")
        if result.exit_code == 0:
            break
        stops += 1
        assert result.exit_code == 1 and f"{store}" in result.stderr and "store cannot be reached" in result.stderr, result.stderr
        assert "run again" in result.stderr and "Traceback" not in result.stderr
    assert stops >= 2 and result.exit_code == 0, result.output
    assert prompts(store, "run") == prompts(store, "calm")


def test_a_store_whose_client_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(StorageError, match=r"Google Storage\. Install it with `uv pip install .* --editable '\.\[gcs\]'`"):
        run_folder("gs://bucket/run")
    with pytest.raises(InputError, match=r"Google Storage\. Install it with .*\[gcs\]"):
        data_files("gs://bucket/a.jsonl")
    assert retry.cannot_open(ImportError("no module named xyz")) == "no module named xyz"
