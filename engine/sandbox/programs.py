"""Untrusted Python programs, each run against its tests in an isolated process of its own.

A program has the standard library and an empty folder. When it ends, or exceeds its limits, all processes that it started are
killed. Use `ProgramRunner` in a `worker_process.WorkerProcess`.
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
from engine.sandbox.isolation import KIB, ProgramLimits, isolate, missing_support
from engine.sandbox.landlock import LIBC

POLL_SECONDS = 0.05  # between looks at the clock and at the folder
CHUNK = 65_536
ERROR_FD = 3  # where the child reports that it could not be isolated; closed by execve
PR_SET_CHILD_SUBREAPER = 36
MAX_FILES = 100
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # by the kernel: CPU seconds or the machine's memory are exhausted
DETAIL_CHARS = 200
READABLE = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/usr/share/zoneinfo")

LAST_LINES = (  # last line of a traceback -> tag; EPERM, EACCES and EAGAIN come from isolation, EFBIG and EMFILE from limits
    ("AssertionError", "tests_failed"),
    ("MemoryError", "out_of_memory"),
    (r"\w*Error: \[Errno (27|24)\]", "too_much_output"),
    (r"\w*Error: \[Errno (1|13|11)\]|PermissionError|RuntimeError: can't start new thread", "forbidden"),
)


class ProgramResult(NamedTuple):
    """How a program ended."""

    tag: str  # "" if its tests passed, else one of `engine.checks.TAGS`
    detail: str


class ProgramRunner:
    """Runs one program a call."""

    def __init__(self, required: Collection[str], limits: ProgramLimits, only: Collection[str] | None = None) -> None:
        """Use every isolation mechanism that this machine supports; with `only`, those of them that it names.

        Raises:
            MachineError: this machine lacks a `required` mechanism.
        """
        problems = missing_support()
        if missing := {name: problems[name] for name in required if problems[name]}:
            listed = "; ".join(f"{name}: {problem}" for name, problem in missing.items())
            raise MachineError(
                f"sandbox: this machine lacks isolation that the check code requires. {listed}. Use another machine, or require "
                f"less in the contract: isolation: [{', '.join(name for name in required if name not in missing)}]"
            )
        self.mechanisms = [name for name, problem in problems.items() if not problem and (only is None or name in only)]
        self.limits = limits
        self.description = ", ".join(self.mechanisms) or "no isolation"
        self.python = os.path.realpath(sys.executable)
        self.readable = [self.python, sysconfig.get_path("stdlib"), f"{sys.base_prefix}/lib", *READABLE]
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, *[ctypes.c_ulong(value) for value in (1, 0, 0, 0)])  # adopt orphans of a program

    def __call__(self, argument: str) -> ProgramResult:
        """Run a JSON object with `answer` and `tests`, both Python source.

        Raises:
            MachineError: a process could not be isolated.
        """
        folder = tempfile.mkdtemp(prefix="rayleigh-program-")
        try:
            return self._run(Path(folder), **json.loads(argument))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path, *, answer: str, tests: str) -> ProgramResult:
        inputs, work, token = folder / "inputs", folder / "work", secrets.token_hex()
        for path in (inputs, work):
            path.mkdir()
        (inputs / "answer.py").write_text(answer, encoding="utf-8", errors="replace")
        (inputs / "tests.py").write_text(tests, encoding="utf-8", errors="replace")
        shutil.copy(Path(__file__).with_name("child.py"), inputs)
        stdin, stdout, errors = os.pipe(), os.pipe(), os.pipe()
        os.write(stdin[1], f"{token}\n".encode())
        child = os.fork()
        if not child:
            self._exec(inputs, work, (stdin[0], stdout[1], stdout[1], errors[1]))
        for descriptor in (*stdin, stdout[1], errors[1]):
            os.close(descriptor)
        try:
            tag, output = self._watch(child, stdout[0], work)
        finally:
            code, cpu_seconds = _kill_all(child)
            error = os.read(errors[0], CHUNK).decode()
            os.close(stdout[0])
            os.close(errors[0])
        if error:
            raise MachineError(
                f"sandbox: a program could not be isolated: {error}. Run `rayleigh doctor` for what this machine lacks."
            )
        if not tag and code in KILLED:
            tag = "timed_out" if cpu_seconds > self.limits.cpu_seconds / 2 else "out_of_memory"
        return _result(tag, code, output.decode("utf-8", "replace"), token)

    def _exec(self, inputs: Path, work: Path, descriptors: Sequence[int]) -> None:
        """Turn this process, a fork, into the program, which inherits no descriptor, environment variable or memory."""
        try:
            os.setsid()
            # Above all targets, so that no dup2 closes one that is still needed.
            high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, len(descriptors)) for descriptor in descriptors]
            for target, descriptor in enumerate(high):
                os.dup2(descriptor, target, inheritable=target != ERROR_FD)
            os.closerange(len(descriptors), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            os.chdir(work)
            os.umask(0o077)
            isolate(self.mechanisms, self.limits, read=[*self.readable, str(inputs)], write=[str(work)])
            command = [self.python, "-S", "-s", "-B", "-P", str(inputs / "child.py")]
            os.execve(self.python, command, {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TMPDIR": str(work)})
        except BaseException as error:
            os.write(ERROR_FD, repr(error).encode())
        finally:
            os._exit(1)

    def _watch(self, child: int, stdout: int, work: Path) -> tuple[str, bytes]:
        """Return (tag, output); the tag says why the program must be ended, "" if it ended by itself."""
        output, deadline, ended = b"", time.monotonic() + self.limits.seconds, os.pidfd_open(child)
        limit, readers = self.limits.output_kib * KIB, [stdout]
        try:
            while time.monotonic() < deadline:
                ready = select.select([*readers, ended], [], [], POLL_SECONDS)[0]
                if stdout in ready:
                    chunk = os.read(stdout, CHUNK)
                    output, readers = output + chunk, readers if chunk else []
                elif ended in ready:
                    return "", output
                if len(output) > limit or _is_full(work, limit):
                    return "too_much_output", output[-limit:]
            return "timed_out", output
        finally:
            os.close(ended)


def _is_full(work: Path, limit: int) -> bool:
    """Return whether the folder has more than `limit` bytes, or too many files."""
    with os.scandir(work) as entries:
        sizes = []
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # the program may remove it meanwhile
                sizes.append(entry.stat(follow_symlinks=False).st_size)
    return sum(sizes) > limit or len(sizes) > MAX_FILES


def _kill_all(child: int) -> tuple[int, float]:
    """Kill `child` and its descendants, which this process has adopted; return the child's exit code and the CPU seconds used."""
    code, cpu_seconds = 0, 0.0
    while True:
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return code, cpu_seconds
        cpu_seconds += usage.ru_utime + usage.ru_stime
        if pid == child:
            code = os.waitstatus_to_exitcode(status)


def _result(tag: str, code: int, output: str, token: str) -> ProgramResult:
    """Return the result by exit code and last line of output."""
    lines = [line for line in output.splitlines() if line.strip()]
    last = lines[-1][:DETAIL_CHARS] if lines else ""
    if tag:
        return ProgramResult(tag, last)
    if not code:
        return ProgramResult("", "") if token in lines else ProgramResult("unfinished", "it ended before its tests did")
    if code < 0 or code > 128:
        return ProgramResult("crashed", f"ended by {signal.Signals(abs(code) % 128).name}")
    return ProgramResult(next((tag for pattern, tag in LAST_LINES if re.match(pattern, last)), "crashed"), last)
