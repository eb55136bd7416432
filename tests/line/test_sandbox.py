"""Hostile programs: each ends within its limits with a tag, reads and changes nothing, and leaves no process."""

import json
import os
import socket
import textwrap
import time
import uuid
from functools import cache, partial

import psutil
import pytest

from engine.errors import MachineError
from engine.sandbox import isolation, programs
from engine.sandbox.isolation import MECHANISMS, ProgramLimits
from engine.sandbox.programs import ProgramRunner
from engine.sandbox.worker_process import CallLimits, Exceeded, WorkerProcess

LIMITS = ProgramLimits(cpu_seconds=5, seconds=20, memory_mib=256, output_kib=64)
SHORT = LIMITS._replace(seconds=0.3)
SECRET = "only for the owner"
PASSES = "assert True"


def new_worker(limits=LIMITS, only=None, seconds=60):
    return WorkerProcess(partial(ProgramRunner, (), limits, only), CallLimits(seconds=seconds, memory_mib=256))


shared_worker = cache(new_worker)


def request(answer, tests=PASSES):
    return json.dumps({"answer": answer, "tests": tests})


def runner(worker):
    """Return a function that runs an answer under all mechanisms and returns (tag, detail)."""
    assert worker.description == ", ".join(MECHANISMS), "this machine lacks isolation: `rayleigh doctor` says what"

    def run(answer, tests=PASSES):
        pid = worker.process.pid
        tag, detail = worker(request(answer, tests))
        assert worker.process.pid == pid and psutil.Process(pid).children(recursive=True) == []
        return tag, detail

    return run


@pytest.fixture(scope="module")
def run():
    return runner(shared_worker())


@pytest.fixture(scope="module")
def run_shortly():
    return runner(shared_worker(SHORT))


@pytest.fixture
def owned(tmp_path):
    """A folder with a file that programs must not read."""
    (tmp_path / "ledger.parquet").write_text(SECRET)
    return tmp_path


@pytest.mark.parametrize(
    ("answer", "tests", "tag"),
    [
        ("def double(x):\n    return 2 * x", "assert double(2) == 4", ""),
        ("def double(x):\n    return 2 + x", "assert double(3) == 6", "tests_failed"),
        ("import asyncio\nasync def one(): return 1", "assert asyncio.run(one()) == 1", ""),
        ("def save():\n    open('x', 'w').write('1')", "save(); assert open('x').read() == '1'", ""),
        ("print('a lot\\n' * 99)", PASSES, ""),
        ("def f(: pass", PASSES, "crashed"),
        ("raise ValueError('no')", PASSES, "crashed"),
        ("import sys; sys.exit(0)", "assert False", "unfinished"),
        ("import os; os._exit(0)", "assert False", "unfinished"),
        ("import os; os._exit(1)", PASSES, "crashed"),
        ("import atexit, os; atexit.register(os._exit, 0)", "assert False", "unfinished"),
    ],
)
def test_program_passes_only_if_its_tests_ran_to_their_end(run, answer, tests, tag):
    assert run(answer, tests)[0] == tag


@pytest.mark.parametrize(
    ("answer", "tag"),
    [
        ("import os\nwhile True: os.fork()", "forbidden"),
        ("import subprocess; subprocess.run(['/bin/sh', '-c', ':'])", "forbidden"),
        ("import threading\nwhile True: threading.Thread(target=input).start()", "forbidden"),
        ("bytearray(100 * 2**30)", "out_of_memory"),
        ("held = []\nwhile True: held.append(bytearray(2**20))", "out_of_memory"),
        ("print('x' * 2**30)", "out_of_memory"),
        ("while True: print('x' * 4096)", "too_much_output"),
        ("import os\nwhile True: os.write(2, b'x' * 4096)", "too_much_output"),
        ("with open('x', 'w') as file:\n  while True: file.write('x' * 4096)", "too_much_output"),
        ("i = 0\nwhile True:\n  i += 1\n  open(str(i), 'w').write('x' * 4096)", "too_much_output"),
        ("import os\nwhile True: os.mkdir('x'); os.chdir('x')", "forbidden"),
        ("def f(): return f()\nf()", "crashed"),
        ("import sys; sys.setrecursionlimit(10**9)\nclass A:\n  def __repr__(self): return repr(self)\nrepr(A())", "crashed"),
        ("import ctypes; ctypes.string_at(0)", "crashed"),
    ],
)
def test_program_that_wants_too_much_is_ended_and_the_next_one_runs(run, answer, tag):
    assert run(answer)[0] == tag
    assert run("def f(): return 1", "assert f() == 1") == ("", "")


@pytest.mark.parametrize(
    "answer",
    [
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
        "while True: pass",
        "import time; time.sleep(60)",
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        "try:\n  while True: pass\nfinally:\n  while True: pass",
        "int('9' * 4300) ** 10**9",
    ],
)
def test_program_without_end_is_ended(run_shortly, answer):
    assert run_shortly(answer)[0] == "timed_out"


def test_program_is_ended_by_the_kernel_after_its_cpu_seconds():
    worker = shared_worker(LIMITS._replace(cpu_seconds=1, seconds=50))
    assert worker(request("while True: pass"))[0] == "timed_out"


FILES = (
    "open('{owned}/ledger.parquet').read()", "os.listdir('{owned}')", "open('{owned}/new', 'w')",
    "open('{owned}/ledger.parquet', 'r+')",
    "os.remove('{owned}/ledger.parquet')", "os.truncate('{owned}/ledger.parquet', 0)", "os.link('{owned}/ledger.parquet', 'x')",
    "os.rename('{owned}/ledger.parquet', 'x')", "os.rmdir('{owned}')", "os.mkdir('{owned}/x')", "os.mkdir('x')", "os.mkfifo('x')",
    "os.symlink('{owned}', 'x')", "open(inputs + '/tests.py', 'w')", "open('/proc/{pid}/environ').read()",
    "open('/proc/{pid}/mem', 'rb+')",
    "open('/proc/self/environ').read()", "os.listdir('/proc')", "open('/etc/passwd').read()", "open('/dev/shm/x', 'w')",
)  # fmt: skip
PROPERTIES = (
    "os.chmod('{owned}', 0)", "os.chown('{owned}', 1, 1)", "os.utime('{owned}/ledger.parquet')",
    "os.truncate('{owned}/ledger.parquet', 0)",
    "os.setxattr('{owned}/ledger.parquet', 'user.x', b'x')", "os.link('{owned}/ledger.parquet', 'x')", "os.chroot('{owned}')",
)  # fmt: skip
SOCKETS = (
    "socket.create_connection(('127.0.0.1', {port}), timeout=5)",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
    "socket.socket(socket.AF_UNIX).connect('{owned}/s')",
    "socket.socket(socket.AF_UNIX).connect('\\0{name}')",
    "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
)
SIGNALS = (
    "os.kill(os.getppid(), 9)", "os.kill({pid}, 9)", "os.kill(-1, 9)", "os.killpg({pid}, 9)", "os.kill(os.getpid(), 19)",
    "signal.pidfd_send_signal(os.pidfd_open({pid}), 9)", "fcntl.fcntl(0, fcntl.F_SETOWN, {pid})",
    "_thread.start_new_thread(input, ())",
    "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))", "resource.prlimit({pid}, resource.RLIMIT_CORE, (0, 0))", "os.fork()",
    "os.posix_spawn('/bin/true', ['true'], {{}})", "os.setuid(1)", "os.nice(-5)", "os.sched_setaffinity({pid}, [0])", "os.setsid()",
    "os.memfd_create('x')", "syscall(101, 16, {pid}, 0, 0)", "syscall(310, {pid}, 0, 0, 0, 0, 0)", "syscall(425, 8, 0)",
    "syscall(272, 0)",
)  # fmt: skip


def attempts(acts):
    """Return an answer that tries each of `acts` and keeps those that succeeded in `done`."""
    head = """
        import _thread, ctypes, fcntl, os, resource, signal, socket, sys
        inputs, done = os.path.dirname(sys.argv[0]), []
        def syscall(*arguments):
            if ctypes.CDLL(None, use_errno=True).syscall(*arguments) < 0: raise OSError(ctypes.get_errno(), "")
        """
    tried = [f"try:\n  {act}\n  done.append({act!r})\nexcept (OSError, RuntimeError, ValueError): pass" for act in acts]
    return "\n".join([textwrap.dedent(head), *tried])


@pytest.mark.parametrize(
    ("mechanisms", "acts"),
    [
        (MECHANISMS, (*FILES, *PROPERTIES, *SOCKETS, *SIGNALS)),
        (("landlock",), FILES),
        (("seccomp",), (*PROPERTIES, *SOCKETS, *SIGNALS)),
        (("namespaces",), SOCKETS[:1]),
    ],
    ids=["all", "landlock", "seccomp", "namespaces"],
)
def test_program_touches_nothing_outside_and_each_mechanism_holds_by_itself(owned, mechanisms, acts):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as other,
    ):
        local.bind(str(owned / "s"))
        name = uuid.uuid4().hex  # abstract names are those of the machine: tests that run side by side must not share one
        other.bind(f"\0{name}")
        for listener in (server, local, other):
            listener.listen()
            listener.setblocking(False)
        values = {"owned": owned, "pid": os.getpid(), "port": server.getsockname()[1], "name": name}
        answer = attempts([act.format_map(values) for act in acts])
        assert shared_worker(only=mechanisms)(request(answer, "assert not done, done")) == ["", ""]
        for listener in (server, local, other):
            with pytest.raises(BlockingIOError):  # no connection was made
                listener.accept()
    assert (owned / "ledger.parquet").read_text() == SECRET and os.stat(owned).st_mode & 0o700 == 0o700


@pytest.mark.parametrize("act", [FILES[0], SOCKETS[0], SIGNALS[0], "open('/proc/{pid}/environ').read()"])
def test_program_that_is_refused_something_is_tagged_forbidden(run, owned, act):
    tag, detail = run("import os, socket\n" + act.format(owned=owned, pid=os.getpid(), port=1))
    assert tag == "forbidden" and SECRET not in detail


def test_program_inherits_no_variable_and_no_descriptor(monkeypatch):
    monkeypatch.setenv("RAYLEIGH_KEY", SECRET)
    worker = new_worker()  # its process starts with the variable
    seen = "import os\nseen = dict(os.environ), [n for n in range(3, 64) if has(n)]"
    has = "import os\ndef has(n):\n  try: os.fstat(n)\n  except OSError: return False\n  return True\n"
    tests = "assert set(seen[0]) == {'PYTHONHASHSEED', 'LC_ALL', 'TMPDIR'}, seen[0]\nassert not seen[1], seen[1]"
    assert worker(request(has + seen, tests)) == ["", ""]


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """Let workers of this test create the folders of programs in a folder of its own; return that folder."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def running(folder):
    """Return the pids of programs whose folder is in `folder`."""
    return [process.pid for process in psutil.process_iter(["cmdline"]) if str(folder) in str(process.info["cmdline"])]


DAEMON = """
import os, time
if not os.fork():
    os.setsid()
    if not os.fork():
        while True: time.sleep(1)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("only", [(), ("namespaces",), ("landlock", "namespaces")], ids=" ".join)
def test_daemon_is_ended_even_without_the_filter_of_calls(own_folders, only):
    worker = new_worker(only=only)
    assert worker(request(DAEMON))[0] in ("", "forbidden")  # RLIMIT_NPROC does not hold for root
    assert psutil.Process(worker.process.pid).children(recursive=True) == []
    assert running(own_folders) == []


def test_program_ends_with_the_worker_process(own_folders):
    worker = new_worker(seconds=0.5)
    with pytest.raises(Exceeded):
        worker(request("import time; time.sleep(60)"))
    deadline = time.monotonic() + 30
    while (left := running(own_folders)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []
    worker.limits = CallLimits(seconds=60, memory_mib=256)
    assert worker(request("")) == ["", ""]  # in a new process


def test_folder_of_a_program_is_removed_when_it_has_ended(own_folders):
    assert new_worker()(request("open('x', 'w').write('x')")) == ["", ""]
    assert list(own_folders.iterdir()) == []


def test_machine_without_a_required_mechanism_refuses_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(programs, "missing_support", lambda: dict.fromkeys(MECHANISMS, "") | {"landlock": "needs Linux 6.2"})
    with pytest.raises(MachineError, match=r"landlock: needs Linux 6.2.*isolation: \[seccomp\]"):
        ProgramRunner(("landlock", "seccomp"), LIMITS)
    assert ProgramRunner(("seccomp",), LIMITS).mechanisms == ["seccomp", "namespaces"]


def test_kernel_without_landlock_is_reported(monkeypatch):
    monkeypatch.setattr(isolation.landlock, "version", lambda: 2)
    assert isolation.missing_support()["landlock"] == "needs Landlock 3 (Linux 6.2), found version 2"
