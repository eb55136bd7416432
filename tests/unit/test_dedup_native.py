"""The kernel's machine code: kept between processes, loaded without the compiler, never half a file or of another type."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.prompts import Copies
from engine.dedup import kernel_entries
from engine.dedup.entry_types import ENTRY_TYPES
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


RAISES = """if True:
    import sys
    from pathlib import Path
    import numpy as np
    from numba import njit
    from engine.dedup.native import Library

    @njit
    def checked(value):
        if value > 3:
            raise ValueError("too large")
        return value

    if sys.argv[2] == "before":
        checked(1.0)
    keys = np.empty((3, 2), np.uint64)
    Library([Path(sys.argv[1])]).call("band_keys", np.arange(12, dtype=np.uint32).reshape(3, 4), 2, keys)
    try:
        checked(5)
    except ValueError:
        print(keys[0, 0])
"""


@pytest.mark.parametrize("numba_is_used", ["before", "after"])
def test_functions_of_the_user_that_numba_compiles_raise_their_errors(tmp_path, numba_is_used):
    assert is_right([tmp_path])
    done = subprocess.run([sys.executable, "-c", RAISES, str(tmp_path), numba_is_used], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.split() == [str(band_keys(MINIMA, Bands(2, 2))[0, 0])], done.stderr


SETTINGS = """if True:
    import sys
    from pathlib import Path
    import numpy as np
    from engine.dedup.native import Library

    keys = np.empty((3, 2), np.uint64)
    Library([Path(sys.argv[1])]).call("band_keys", np.arange(12, dtype=np.uint32).reshape(3, 4), 2, keys)
    from numba import config
    print(keys[0, 0], config.DISABLE_JIT, config.BOUNDSCHECK)
"""


def test_numba_settings_of_the_user_do_not_change_the_kernel_and_stay(tmp_path):
    sizes = []
    for settings, shown in (({}, "0 None"), ({"NUMBA_DISABLE_JIT": "1"}, "1 None"), ({"NUMBA_BOUNDSCHECK": "1"}, "0 1")):
        folder = tmp_path / shown
        words = [sys.executable, "-c", SETTINGS, str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=os.environ | settings)
        assert done.stdout == f"{band_keys(MINIMA, Bands(2, 2))[0, 0]} {shown}\n", done.stderr
        sizes += [path.stat().st_size for path in folder.iterdir()]
    assert len(sizes) == 3 and len(set(sizes)) == 1  # checks of bounds are code, too


def test_what_older_versions_compiled_is_removed_and_nothing_else(tmp_path):
    month = time.time() - 31 * 86_400
    ages = {
        "band_keys-old.o": month, "band_keys-other_cpu.o": time.time(), "band-old.o": month, "mine": month,
        "minhash-x.o.1.part": month, "minhash-x.o.2.part": time.time(),
    }  # fmt: skip
    for name, age in ages.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))
    assert is_right([tmp_path])
    left = {path.name for path in tmp_path.iterdir()}
    assert left & ages.keys() == {"band_keys-other_cpu.o", "band-old.o", "mine", "minhash-x.o.2.part"} and len(left) == 5


def test_every_function_of_the_kernel_has_the_types_of_its_arguments():
    assert kernel_entries.ENTRIES.keys() == ENTRY_TYPES.keys()
