"""A node's cache: one download for many processes, taken up after a kill, verified, and evicted but never while it is in use."""

import hashlib
import json
import multiprocessing
import os
import shutil
import time

import pytest
from fsspec.implementations.local import LocalFileSystem

from engine.errors import StorageError
from engine.records.record import FileEntry
from engine.storage.folder import Folder
from engine.storage.node_cache import NodeCache
from engine.storage.sums import SUMS, file_entries

FORK = multiprocessing.get_context("fork")  # a process of its own takes no second to import


def store(folder, **files):
    """Return the URL of a new folder with `files`, name -> bytes."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return Folder(f"file://{folder}")


def entries(source):
    return file_entries(source, lambda name: True, f"{source.path}.sums")


def fetched(source, cache, gets):
    """Fetch in this process, which writes the name of each file that it gets from the store into the file `gets`."""
    got = LocalFileSystem.get_file

    def get_file(self, path, target, *args, **options):
        with gets.open("a") as log:
            log.write(f"{os.path.basename(path)}\n")
        got(self, path, target, *args, **options)
        time.sleep(0.1)  # so that others come meanwhile

    LocalFileSystem.get_file = get_file
    try:
        return cache.fetch(source, entries(source))
    finally:
        LocalFileSystem.get_file = got


def in_process(function, *arguments, code=0):
    """Run `function` in a process of its own, to its end."""
    process = FORK.Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == code


@pytest.fixture
def model(tmp_path):
    source = store(tmp_path / "store", **{"a.bin": b"a" * 1000, "b.bin": b"b" * 2000})
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in (("a.bin", b"a" * 1000), ("b.bin", b"b" * 2000))]
    source.write(SUMS, "\n".join(sums).encode())
    return source


def test_processes_that_ask_at_once_wait_for_one_download(tmp_path, model):
    cache, gets = NodeCache(str(tmp_path / "cache")), tmp_path / "gets"
    processes = [FORK.Process(target=fetched, args=(model, cache, gets)) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(gets.read_text().split()) == ["a.bin", "b.bin"]
    folder = fetched(model, cache, gets)
    assert {path.name: path.read_bytes()[:1] for path in folder.iterdir()} == {"a.bin": b"a", "b.bin": b"b"}
    assert sorted(gets.read_text().split()) == ["a.bin", "b.bin"]


def hang(source, cache, ready):
    """Get the first file whole, and half of the second."""
    got = LocalFileSystem.get_file

    def get_file(self, path, target, *args, **options):
        if path.endswith("a.bin"):
            got(self, path, target, *args, **options)
            return
        while not list(cache_files(cache, "a.bin")):
            time.sleep(0.01)
        with open(target, "wb") as file:
            file.write(b"b" * 700)
        ready.set()
        time.sleep(600)

    LocalFileSystem.get_file = get_file
    cache.fetch(source, entries(source))


def cache_files(cache, pattern):
    from pathlib import Path

    return Path(cache.folder).glob(f"*/{pattern}")


def test_killed_download_is_taken_up_and_never_taken_for_whole(tmp_path, model):
    cache, gets, ready = NodeCache(str(tmp_path / "cache")), tmp_path / "gets", FORK.Event()
    process = FORK.Process(target=hang, args=(model, cache, ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    assert {path.parent.suffix for path in cache_files(cache, "*")} == {".part"}
    folder = fetched(model, cache, gets)
    assert gets.read_text().split() == ["b.bin"]
    assert (folder / "b.bin").read_bytes() == b"b" * 2000
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "b.bin"]
    assert {path.parent for path in cache_files(cache, "*")} == {folder}


def test_file_of_another_content_is_refused_and_named(tmp_path, model):
    cache = NodeCache(str(tmp_path / "cache"))
    files = entries(model)
    model.write("b.bin", b"x" * 2000)
    with pytest.raises(StorageError, match=r"store/b.bin: has 2000 bytes with SHA-256 .* Upload the folder again"):
        cache.fetch(model, files)
    assert {path.parent.suffix for path in cache_files(cache, "*")} == {".part"}
    model.write("b.bin", b"b" * 2000)
    assert (cache.fetch(model, files) / "b.bin").read_bytes() == b"b" * 2000


def test_what_was_damaged_while_a_download_was_broken_off_is_fetched_again(tmp_path, model):
    cache, gets, ready = NodeCache(str(tmp_path / "cache")), tmp_path / "gets", FORK.Event()
    process = FORK.Process(target=hang, args=(model, cache, ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    [damaged] = cache_files(cache, "a.bin")
    damaged.write_bytes(b"x" * 1000)
    assert (fetched(model, cache, gets) / "a.bin").read_bytes() == b"a" * 1000
    assert sorted(gets.read_text().split()) == ["a.bin", "b.bin"]


def test_least_recently_used_is_evicted_and_never_what_a_process_uses(tmp_path):
    sources = {name: store(tmp_path / name, weights=name.encode() * 1000) for name in "abcd"}
    cache = NodeCache(str(tmp_path / "cache"), limit=2500)

    def held():
        return {path.read_bytes()[:1].decode() for path in cache_files(cache, "weights") if path.parent.suffix != ".part"}

    def keep(name):
        return cache.fetch(sources[name], measured(sources[name]))

    in_process(keep, "a")
    in_process(keep, "b")
    in_process(keep, "a")  # used later than b
    assert held() == {"a", "b"}
    keep("c")  # held by this process from now on
    assert held() == {"a", "c"}
    in_process(keep, "d")
    assert held() == {"c", "d"}
    keep("d")
    with pytest.raises(StorageError, match=r"no room for it: of 0.00 GiB 0.00 GiB are in use by processes .* weights_cache.gib"):
        keep("a")
    assert held() == {"c", "d"}


def measured(source):
    return tuple(source.measure(name) for name in source.files())


def test_model_that_is_larger_than_the_cache_is_refused_before_anything_is_evicted(tmp_path, model):
    small = store(tmp_path / "small", weights=b"s")
    cache = NodeCache(str(tmp_path / "cache"), limit=2999)
    in_process(cache.fetch, small, measured(small))
    with pytest.raises(StorageError, match=r"has 0.00 GiB, and the cache in .* may hold 0.00 GiB. Raise weights_cache.gib"):
        cache.fetch(model, entries(model))
    assert len(list(cache_files(cache, "weights"))) == 1


def test_what_is_not_in_use_makes_room_on_a_disk_that_others_have_filled(tmp_path, model, monkeypatch):
    cache = NodeCache(str(tmp_path / "cache"))
    old = store(tmp_path / "old", **{"old.bin": b"o" * 3000})
    in_process(cache.fetch, old, entries(old))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    new = cache.fetch(model, entries(model))
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [new.name]


def test_reservation_of_a_killed_download_is_no_loss_of_room(tmp_path, model):
    cache, ready = NodeCache(str(tmp_path / "cache"), limit=3500), FORK.Event()
    process = FORK.Process(target=hang, args=(model, cache, ready))
    process.start()
    assert ready.wait(60)
    other = store(tmp_path / "other", weights=b"o" * 1000)
    with pytest.raises(StorageError, match="in use by processes"):
        cache.fetch(other, measured(other))
    process.kill()
    process.join()
    assert (cache.fetch(other, measured(other)) / "weights").stat().st_size == 1000


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_file_name_that_leads_out_of_the_cache_is_refused(tmp_path, name):
    source = store(tmp_path / "store", weights=b"w")
    with pytest.raises(StorageError, match="expected one inside of the folder"):
        NodeCache(str(tmp_path / "cache")).fetch(source, [FileEntry(name, 1, hashlib.sha256(b"w").hexdigest())])


def test_disk_that_cannot_be_written_is_named(tmp_path, model):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/cache: .* cannot be kept there: .*weights_cache.folder"):
        NodeCache(str(tmp_path / "file" / "cache")).fetch(model, entries(model))


def test_store_that_lacks_a_file_says_which(tmp_path, model):
    files = entries(model)
    model.remove("a.bin")
    with pytest.raises(StorageError, match=r"store/a.bin: cannot be read: .*Check the address"):
        NodeCache(str(tmp_path / "cache")).fetch(model, files)


def test_folder_behind_a_store_is_fetched(tmp_path, s3):
    source = Folder(f"{s3}/{tmp_path.name}/model")
    source.write("config.json", b"{}")
    source.write("part/weights", b"w" * 100)
    source.write(".hidden", b"")
    files = file_entries(source, lambda name: True, str(tmp_path / "cache"))
    folder = NodeCache(str(tmp_path / "cache")).fetch(source, files)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == ["config.json", "part/weights"]


def test_hashes_without_a_file_of_sums_are_measured_once(tmp_path, monkeypatch):
    source, memo = store(tmp_path / "store", weights=b"w"), str(tmp_path / "memo")
    first = file_entries(source, lambda name: True, memo)
    assert first == (FileEntry("weights", 1, hashlib.sha256(b"w").hexdigest()),)
    monkeypatch.setattr(Folder, "measure", lambda *_: pytest.fail("read again"))
    assert file_entries(source, lambda name: True, memo) == first
    monkeypatch.undo()
    source.write("weights", b"v")
    assert file_entries(source, lambda name: True, memo) != first


def test_store_that_tells_neither_tag_nor_time_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.storage.sums.NAMED", ())
    source, memo = store(tmp_path / "store", weights=b"w"), str(tmp_path / "memo")
    first = file_entries(source, lambda name: True, memo)
    source.write("weights", b"v")  # of the same size
    assert file_entries(source, lambda name: True, memo) != first


def test_hidden_files_count_neither_in_the_store_nor_in_the_sums(model):
    before = entries(model)
    model.write(".gitattributes", b"x")
    lines = [f"{file.sha256}  ./{file.path}" for file in before] + [f"{'0' * 64}  ./.gitattributes"]
    model.write(SUMS, "\n".join(lines).encode())
    assert entries(model) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{'0' * 64}  gone.bin", r"SHA256SUMS names gone.bin, which is not there; found SHA256SUMS, a.bin, b.bin"),
        ("no sum", r"SHA256SUMS, line 1: found 'no sum', expected a SHA-256, two spaces and a name"),
    ],
)
def test_sums_that_cannot_be_used_are_refused(model, text, said):
    model.write(SUMS, text.encode())
    with pytest.raises(StorageError, match=said):
        entries(model)


def test_files_that_the_sums_do_not_name_are_left_out(model):
    model.write("more.bin", b"m")
    assert [file.path for file in entries(model)] == ["a.bin", "b.bin"]
    assert json.dumps(entries(model)[0].bytes) == "1000"
