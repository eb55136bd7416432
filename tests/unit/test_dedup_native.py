"""The kernel's machine code: kept between processes, loaded without the compiler, never half a file or of another type."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.prompts import Copies
from engine.dedup import native
from engine.dedup.minhash import Bands, band_keys, minhash, text_keys

MINIMA = np.arange(12, dtype=np.uint32).reshape(3, 4)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders for object files, which are empty; no function has been loaded."""
    found = [tmp_path / "beside", tmp_path / "home"]
    monkeypatch.setattr(native, "_folders", lambda: found)
    monkeypatch.setattr(native, "_loaded", {})
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def test_machine_code_is_kept_and_loaded_again(folders, monkeypatch):
    expected = band_keys(MINIMA, Bands(2, 2)).tolist()
    assert len(files(folders[0])) == 1 and not folders[1].exists()
    monkeypatch.setattr(native, "_loaded", {})
    monkeypatch.setattr(native, "_compiled", None)  # is not called
    assert band_keys(MINIMA, Bands(2, 2)).tolist() == expected


def test_a_damaged_file_is_made_again(folders, monkeypatch):
    expected = band_keys(MINIMA, Bands(2, 2)).tolist()
    [path] = folders[0].glob("*")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1] + b"?"):
        path.write_bytes(damaged)
        monkeypatch.setattr(native, "_loaded", {})
        assert band_keys(MINIMA, Bands(2, 2)).tolist() == expected
        assert path.read_bytes() != damaged


def test_the_users_cache_is_used_where_the_code_cannot_be_written_and_no_cache_is_needed(folders):
    expected = band_keys(MINIMA, Bands(2, 2)).tolist()
    name = files(folders[0])
    for path in folders[0].glob("*"):
        path.unlink()
    folders[0].rmdir()
    folders[0].write_text("a file: no folder can be made here")
    native._loaded.clear()
    assert band_keys(MINIMA, Bands(2, 2)).tolist() == expected
    assert files(folders[1]) == name
    for path in folders[1].glob("*"):
        path.unlink()
    folders[1].rmdir()
    folders[1].write_text("nor here")
    native._loaded.clear()
    assert band_keys(MINIMA, Bands(2, 2)).tolist() == expected


@pytest.mark.parametrize("minima", [MINIMA.astype(np.int64), MINIMA.T, 4])
def test_arrays_of_another_type_are_refused(minima):
    with pytest.raises(TypeError, match=r"band_keys: argument 0: found .*, expected a contiguous uint32"):
        native.call("band_keys", minima, 2, np.empty((3, 2), np.uint64))


def test_signing_imports_no_compiler():
    texts = pa.array(["a"])
    minhash(texts, Copies()), text_keys(texts)  # here they may be compiled
    code = """if True:
        import sys
        import pyarrow as pa
        from engine.contract.prompts import Copies
        from engine.dedup.minhash import minhash, text_keys
        minhash(pa.array(["a"]), Copies()), text_keys(pa.array(["a"]))
        assert "llvmlite" in sys.modules and "numba" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
