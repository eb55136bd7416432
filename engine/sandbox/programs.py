"""Python programs that nobody trusts, each run against its tests in a process behind walls; lives apart (`engine.sandbox.worker_process`).

A program sees the standard library and an empty folder. When it ends, or goes beyond its allowance, all that came of it is ended.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import resource
import secrets
import select
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.errors import MachineError
from engine.sandbox.isolation import KIB, ProgramLimits, raise_walls, standing
from engine.sandbox.landlock import LIBC

TICK = 0.05  # seconds between looks at the clock and at the folder
CHUNK = 65_536
FAULT = 3  # where a process says why it could not be shut in; closed once it is the program
ADOPT_ORPHANS = 36
MOST_FILES = 100
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # by the kernel: at the end of its CPU seconds, or of the machine's memory
DETAIL = 200
READABLE = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/usr/share/zoneinfo")

LAST_WORDS = (  # how a traceback ends -> tag; EPERM, EACCES and EAGAIN are the walls', EFBIG and EMFILE the limits' answers
    ("AssertionError", "tests_failed"),
    ("MemoryError", "out_of_memory"),
    (r"\w*Error: \[Errno (27|24)\]", "too_much_output"),
    (r"\w*Error: \[Errno (1|13|11)\]|PermissionError|RuntimeError: can't start new thread", "forbidden"),
)
TAGS = ("tests_failed", "crashed", "unfinished", "timed_out", "out_of_memory", "too_much_output", "forbidden")


class Ended(NamedTuple):
    """How a program ended."""

    tag: str  # one of TAGS; "" if its tests passed
    detail: str


class Programs:
    """Runs one program a call."""

    def __init__(self, wanted: Collection[str], limits: ProgramLimits, used: Collection[str] | None = None) -> None:
        """Every wall that this machine gives is raised, or only those of `used`.

        Raises:
            MachineError: a wall that is wanted does not stand here.
        """
        state = standing()
        if missing := {wall: state[wall] for wall in wanted if state[wall]}:
            found = "; ".join(f"{wall}: {why}" for wall, why in missing.items())
            raise MachineError(
                f"sandbox: this machine has not all walls that the check code wants. {found}. Run it where they stand, or allow "
                f"fewer in the contract: walls: [{', '.join(wall for wall in wanted if wall not in missing)}]"
            )
        self.walls = [wall for wall, why in state.items() if not why and (used is None or wall in used)]
        self.limits = limits
        self.description = ", ".join(self.walls) or "no wall"
        self.python = os.path.realpath(sys.executable)
        self.readable = [self.python, sysconfig.get_path("stdlib"), f"{sys.base_prefix}/lib", *READABLE]
        LIBC.prctl(ADOPT_ORPHANS, *[ctypes.c_ulong(value) for value in (1, 0, 0, 0)])

    def __call__(self, argument: str) -> Ended:
        """Run {"answer", "tests"}.

        Raises:
            MachineError: a wall does not stand after all.
        """
        folder = tempfile.mkdtemp(prefix="rayleigh-program-")
        try:
            return self._run(Path(folder), **json.loads(argument))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path, *, answer: str, tests: str) -> Ended:
        given, work, word = folder / "given", folder / "work", secrets.token_hex()
        for place in (given, work):
            place.mkdir()
        (given / "answer.py").write_text(answer, encoding="utf-8", errors="replace")
        (given / "tests.py").write_text(tests, encoding="utf-8", errors="replace")
        shutil.copy(Path(__file__).with_name("child.py"), given)
        asks, says, faults = os.pipe(), os.pipe(), os.pipe()
        os.write(asks[1], f"{word}\n".encode())
        child = os.fork()
        if not child:
            self._become(given, work, (asks[0], says[1], says[1], faults[1]))
        for end in (*asks, says[1], faults[1]):
            os.close(end)
        try:
            tag, said = self._watch(child, says[0], work)
        finally:
            code, used = _end_all(child)
            fault = os.read(faults[0], CHUNK).decode()
            os.close(says[0])
            os.close(faults[0])
        if fault:
            raise MachineError(f"sandbox: a program could not be shut in: {fault}. `rayleigh doctor` says what this machine lacks.")
        if not tag and code in KILLED:
            tag = "timed_out" if used > self.limits.cpu_seconds / 2 else "out_of_memory"
        return _read(tag, code, said.decode("utf-8", "replace"), word)

    def _become(self, given: Path, work: Path, ends: Sequence[int]) -> None:
        """Turn this process, a fork, into the program. Nothing of ours comes along: no descriptor, no variable, no memory."""
        try:
            os.setsid()
            high = [  # out of the way of each other
                fcntl.fcntl(end, fcntl.F_DUPFD, len(ends)) for end in ends
            ]
            for target, end in enumerate(high):
                os.dup2(end, target, inheritable=target != FAULT)
            os.closerange(len(ends), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            os.chdir(work)
            os.umask(0o077)
            raise_walls(self.walls, self.limits, read=[*self.readable, str(given)], write=[str(work)])
            command = [self.python, "-S", "-s", "-B", "-P", str(given / "child.py")]
            os.execve(self.python, command, {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TMPDIR": str(work)})
        except BaseException as error:
            os.write(FAULT, repr(error).encode())
        finally:
            os._exit(1)

    def _watch(self, child: int, says: int, work: Path) -> tuple[str, bytes]:
        """Return why it must be ended, "" if it ended by itself, and what it said."""
        said, deadline, ended = b"", time.monotonic() + self.limits.seconds, os.pidfd_open(child)
        most, ears = self.limits.output_kib * KIB, [says]
        try:
            while time.monotonic() < deadline:
                ready = select.select([*ears, ended], [], [], TICK)[0]
                if says in ready:
                    heard = os.read(says, CHUNK)
                    said, ears = said + heard, ears if heard else []
                elif ended in ready:
                    return "", said
                if len(said) > most or _is_full(work, most):
                    return "too_much_output", said[-most:]
            return "timed_out", said
        finally:
            os.close(ended)


def _is_full(work: Path, most: int) -> bool:
    """Whether there is more in the folder than one file may hold, or too many files."""
    with os.scandir(work) as found:
        sizes = []
        for entry in found:
            with contextlib.suppress(FileNotFoundError):  # it goes on writing and removing
                sizes.append(entry.stat(follow_symlinks=False).st_size)
    return sum(sizes) > most or len(sizes) > MOST_FILES


def _end_all(child: int) -> tuple[int, float]:
    """End `child` and whatever it left behind, which is ours by adoption; return its exit code and the CPU seconds used."""
    code, used = 0, 0.0
    while True:
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return code, used
        used += usage.ru_utime + usage.ru_stime
        if pid == child:
            code = os.waitstatus_to_exitcode(status)


def _read(tag: str, code: int, said: str, word: str) -> Ended:
    """Return what to make of an exit code and of the last words."""
    lines = [line for line in said.splitlines() if line.strip()]
    last = lines[-1][:DETAIL] if lines else ""
    if tag:
        return Ended(tag, last)
    if not code:
        return Ended("", "") if word in lines else Ended("unfinished", "it ended before its tests did")
    if code < 0 or code > 128:
        return Ended("crashed", f"ended by {signal.Signals(abs(code) % 128).name}")
    return Ended(next((tag for pattern, tag in LAST_WORDS if re.match(pattern, last)), "crashed"), last)
