"""The kernel's machine code: kept between processes, loaded without the compiler, never half a file or of another type."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.prompts import Copies
from engine.dedup import kernel_entries
from engine.dedup.minhash import Bands, band_keys, minhash, text_keys
from engine.dedup.native import Library

MINIMA = np.arange(12, dtype=np.uint32).reshape(3, 4)


def is_right(folders: Sequence[Path]) -> bool:
    """Return whether a new library computes what that of this process does."""
    keys = np.empty((3, 2), np.uint64)
    Library(folders).call("band_keys", MINIMA, 2, keys)
    return keys.tolist() == band_keys(MINIMA, Bands(2, 2)).tolist()


def test_machine_code_is_kept_and_loaded_again(tmp_path, monkeypatch):
    folders = [tmp_path / "beside", tmp_path / "home"]
    assert is_right(folders)
    assert len(list(folders[0].iterdir())) == 1 and not folders[1].exists()
    monkeypatch.setattr(kernel_entries, "compile_entry", None)  # is not called
    assert is_right(folders)


def test_a_damaged_file_is_made_again(tmp_path):
    assert is_right([tmp_path])
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1] + b"?"):
        path.write_bytes(damaged)
        assert is_right([tmp_path])
        assert path.read_bytes() != damaged


def test_another_folder_is_used_where_one_cannot_be_written_and_none_is_needed(tmp_path):
    (tmp_path / "file").write_text("no folder can be here")
    nowhere, home = tmp_path / "file" / "cache", tmp_path / "home"
    assert is_right([nowhere, home]) and len(list(home.iterdir())) == 1
    assert is_right([nowhere]) and is_right([])


@pytest.mark.parametrize("minima", [MINIMA.astype(np.int64), MINIMA.T, 4])
def test_arrays_of_another_type_are_refused(minima):
    with pytest.raises(TypeError, match=r"band_keys: argument 0: found .*, expected a contiguous uint32"):
        Library([]).call("band_keys", minima, 2, np.empty((3, 2), np.uint64))


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
