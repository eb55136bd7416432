"""Calls the kernel's functions (`kernel_entries`) as machine code, without importing the compiler.

numba compiles a function once, in some seconds, to an object file; llvmlite, which numba is built on, loads it in a few
milliseconds, where the import of numba alone takes half a second. An object file is in a cache next to this file, or else in the
user's; its name is a hash of the kernel's source, of llvmlite's version and of the CPU. It is written whole and checked by its
hash before it is loaded. Where no folder is writable every process compiles what it uses.

A function takes one pointer to 64-bit integers: an array among its arguments becomes its address and its shape. ctypes releases
Python's lock while it runs.
"""

import ctypes
import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from engine.dedup.entry_types import ENTRY_TYPES

HERE = Path(__file__).parent
SOURCES = ("entry_types.py", "kernel.py", "kernel_texts.py", "kernel_graph.py", "kernel_entries.py")
NEVER_CALLED = (  # what the code that numba adds for errors refers to; no function of the kernel raises one
    "numba_do_raise", "numba_gil_ensure", "numba_gil_release", "numba_runtime_build_excinfo_struct", "numba_unpickle",
)  # fmt: skip
OPTIMIZED = 3  # the level at which numba compiles, too


class _Loaded(NamedTuple):
    run: Callable[[int], None]
    engine: Any  # of LLVM: owns the machine code


class Library:
    """The kernel's functions, each loaded when it is first called; `folders` are where object files may be, the best first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._lock = Lock()
        self._loaded: dict[str, _Loaded] = {}

    def call(self, name: str, *args: np.ndarray | int) -> None:
        """Run the function `name` of kernel_entries.ENTRIES, which says what `args` are; arrays must be contiguous.

        Raises:
            TypeError: an array is not contiguous, or is of another type.
        """
        flat: list[int] = []
        for number, (arg, expected) in enumerate(zip(args, ENTRY_TYPES[name], strict=True)):
            found = str(arg.dtype) if isinstance(arg, np.ndarray) else "int"
            if found != expected or (isinstance(arg, np.ndarray) and not arg.flags.c_contiguous):
                raise TypeError(f"{name}: argument {number}: found {found}, expected a contiguous {expected}")
            flat += [arg.ctypes.data, *arg.shape] if isinstance(arg, np.ndarray) else [int(arg)]
        packed = np.array(flat, np.int64)
        self._function(name).run(packed.ctypes.data)

    def load_all(self) -> None:
        """Load every function, and compile those that no folder has."""
        for name in ENTRY_TYPES:
            self._function(name)

    def _function(self, name: str) -> _Loaded:
        if (found := self._loaded.get(name)) is None:
            with self._lock:
                found = self._loaded.get(name) or self._load(name)
                self._loaded[name] = found
        return found

    def _load(self, name: str) -> _Loaded:
        import llvmlite.binding as llvm

        file = f"{name}-{_stamp()}.o"
        symbol, code = self._kept(file) or self._compiled(name, file)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(opt=OPTIMIZED, jit=True)
        for unused in NEVER_CALLED:
            llvm.add_symbol(unused, ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return _Loaded(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(symbol)), engine)

    def _kept(self, file: str) -> tuple[str, bytes] | None:
        """Return the symbol and the object file; None if there is none, or it is damaged."""
        for folder in self._folders:
            with suppress(OSError, ValueError):
                head, code = (folder / file).read_bytes().split(b"\n", 1)
                symbol, digest = head.decode().split()
                if hashlib.sha256(code).hexdigest() == digest:
                    return symbol, code
        return None

    def _compiled(self, name: str, file: str) -> tuple[str, bytes]:
        from engine.dedup.kernel_entries import compile_entry

        symbol, code = compile_entry(name)
        data = f"{symbol} {hashlib.sha256(code).hexdigest()}\n".encode() + code
        for folder in self._folders:
            partial = folder / f"{file}.{uuid.uuid4().hex[:8]}.part"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(data)
                os.replace(partial, folder / file)
                break
            except OSError:
                with suppress(OSError):
                    partial.unlink()
        return symbol, code


@cache
def _stamp() -> str:
    import llvmlite
    import llvmlite.binding as llvm

    features = ""
    with suppress(RuntimeError):  # LLVM does not tell them of every CPU
        features = llvm.get_host_cpu_features().flatten()
    digest = hashlib.sha256(f"{llvmlite.__version__} {llvm.get_host_cpu_name()} {features}".encode())
    for name in SOURCES:
        digest.update(hashlib.sha256((HERE / name).read_bytes()).digest())
    return digest.hexdigest()[:24]


def _folders() -> list[Path]:
    folders = [HERE / "__pycache__"]
    with suppress(RuntimeError):  # a user without a home
        folders.append(Path.home() / ".cache" / "rayleigh")
    return folders


_LIBRARY = Library(_folders())
call, load_all = _LIBRARY.call, _LIBRARY.load_all
