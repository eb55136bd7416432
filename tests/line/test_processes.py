"""What is seen only in processes of their own: what a command imports, and engines that fail, hang or load side by side."""

import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq

from engine.inference.crash_isolation import DIED, CrashIsolator
from engine.storage.folder import Folder
from tests.unit.made_run import made_run

HEAVY = ("ray", "torch", "vllm", "pyarrow", "duckdb", "rich")


def python(code, *given):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=True).stdout


def test_importing_the_command_and_asking_for_help_imports_nothing_heavy():
    code = f"""
import sys, jobs.cli
try:
    jobs.cli.app(["run", "--help"])
except SystemExit:
    print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(code).endswith("[]\n")


def test_reading_a_run_imports_neither_ray_nor_torch(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    code = """
import sys, jobs.cli
for words in (["status"], ["report"], ["sql", "select 1"], ["trace", "eeee5555"]):
    try:
        jobs.cli.app([words[0], sys.argv[1], *words[1:]])
    except SystemExit as end:
        print("ended", words[0], end.code)
print([name for name in ("ray", "torch", "vllm") if name in sys.modules])
"""
    lines = python(code, str(folder)).splitlines()
    assert [line[6:] for line in lines if line.startswith("ended")] == ["status 0", "report 0", "sql 0", "trace 0"]
    assert lines[-1] == "[]"


def test_a_query_imports_no_pandas_and_a_check_of_the_default_contract_loads_no_tokenizer(tmp_path):
    folder = made_run(str(tmp_path / "run"), tmp_path).folder
    code = """
import sys, jobs.cli
try:
    jobs.cli.app(sys.argv[1:])
except SystemExit as end:
    print(end.code, [name for name in ("pandas", "transformers", "torch") if name in sys.modules])
"""
    for words in (["sql", str(folder), "select * from examples"], ["check", "jobs/contracts/smoke.yaml"]):
        assert python(code, *words).splitlines()[-1] == "0 []"


def test_importing_the_contract_imports_nothing_heavy():
    heavy = ("ray", "torch", "vllm", "pyarrow", "numpy")
    code = f"import sys, engine.contract.load, engine.contract.profile; print([name for name in {heavy} if name in sys.modules])"
    assert python(code) == "[]\n"


def test_engines_that_load_side_by_side_are_no_deaths(tmp_path):
    code = (
        "import sys, time; from engine.inference.crash_isolation import CrashIsolator; from engine.storage.folder import Folder\n"
        f"CrashIsolator(Folder({str(tmp_path)!r}), hang_seconds=60).load(lambda: time.sleep(60), 'big')"
    )
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    try:
        while len(list(tmp_path.glob("*.json"))) < 2:
            time.sleep(0.05)
        assert CrashIsolator(Folder(str(tmp_path)), hang_seconds=60).load(lambda: "loaded", "big") == "loaded"  # type: ignore[arg-type, return-value]
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_real_processes_end_when_the_engine_fails_or_hangs(tmp_path):
    code = (
        "import sys, time; from engine.inference.crash_isolation import CrashIsolator; from engine.storage.folder import Folder\n"
        f"isolator = CrashIsolator(Folder({str(tmp_path)!r}), hang_seconds=0.2)\n"
        "isolator(['a'], lambda batch: time.sleep(60) if sys.argv[1] == 'hang' else 1 / 0, lambda index: None)"
    )
    ends = [subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True) for how in ("hang", "fail")]
    assert "Timeout" in ends[0].stderr and ends[0].returncode == 1
    assert "ZeroDivisionError" in ends[1].stderr and ends[1].returncode == DIED
    assert len(list(tmp_path.iterdir())) == 2


def test_help_imports_no_pydantic_and_deduplication_of_copies_neither_pandas_nor_scipy(tmp_path):
    code = """
import sys, jobs.cli
try:
    jobs.cli.app(["--help"])
except SystemExit:
    print([name for name in ("pydantic", "numpy", "pyarrow", "yaml") if name in sys.modules])
"""
    assert python(code).splitlines()[-1] == "[]"
    (tmp_path / "in.jsonl").write_text('{"text": "one and the same"}\n{"text": "One  and the same"}\n{"text": "another"}\n')
    code = """
import sys, jobs.cli
try:
    jobs.cli.app(["dedup", *sys.argv[1:]])
except SystemExit as end:
    print(end.code, [name for name in ("pandas", "scipy", "ray", "torch") if name in sys.modules])
import pyarrow, pandas
print(len(pyarrow.table({"a": [1, 2]}).to_pandas()))
"""
    assert python(code, str(tmp_path / "in.jsonl"), str(tmp_path / "out")).splitlines()[-2:] == ["0 []", "2"]


def test_a_repeated_time_with_nanoseconds_is_named_without_pandas(tmp_path):
    times = pa.array([1, 1, 5], pa.timestamp("ns"))
    pq.write_table(pa.table({"id": times, "text": ["a b", "c d", "e f"]}), tmp_path / "in.parquet")
    command = [sys.executable, "-m", "jobs.cli", "dedup", str(tmp_path / "in.parquet"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "found the id '1970-01-01 00:00:00.000000001' more than once" in done.stderr
