"""The arrows of the engine and the shape of its code, read from the source; nothing is imported. Every breach is listed."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE = sorted(ROOT.glob("engine/**/*.py"))
FILES = [*ENGINE, *sorted(ROOT.glob("jobs/**/*.py"))]

FLOOR = {"contract", "rows", "records", "storage", "errors"}
SERVICES = {"inference", "tools", "checks", "sandbox", "dedup", "distributed", "runs", "stats"}
# A room uses the services and the floor; of the other rooms only those that are named here.
ROOMS: dict[str, set[str]] = {
    "prompts": set(),
    "teachers": set(),
    "judges": set(),
    "calibration": {"judges"},
    "scoring": {"judges"},
    "grading": {"judges", "calibration", "scoring"},
    "curation": set(),
    "students": set(),
    "evaluation": set(),
    "release": set(),
    "report": set(),
}
MAY_IMPORT = {
    **{room: {room, *others, *SERVICES, *FLOOR} for room, others in ROOMS.items()},
    "inference": {"inference", *FLOOR},
    "tools": {"tools", "inference", "sandbox", *FLOOR},
    "checks": {"checks", "sandbox", *FLOOR},
    "sandbox": {"sandbox", *FLOOR},
    "runs": {"runs", *FLOOR},
    "distributed": {"distributed", "runs", *FLOOR},
    "dedup": {"dedup", "inference", "distributed", "runs", *FLOOR},
    "stats": {"stats", "records", "rows"},
    "contract": {"contract", "errors"},
    "storage": {"storage", "records", "rows", "errors"},
    "records": {"records"},
    "rows": set(),
    "errors": set(),
}
# Where each heavy package may be imported at all.
HEAVY = {
    "ray": ("engine/distributed/*.py", "engine/*/flow.py", "engine/students/launch.py", "jobs/*/*.py"),
    "vllm": ("engine/inference/vllm_engine.py", "jobs/bench/*.py"),  # a benchmark compares with vLLM itself
    "deepspeed": ("engine/students/zero.py",),
    "numba": ("engine/dedup/kernel.py",),
}
CODE_FROM_DATA = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 300, 60, 6

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    """The room, service or file of the floor that a file of the engine belongs to."""
    return path.relative_to(ROOT / "engine").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every imported module by its full name, wherever the import stands."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def called(path: Path, *names: str) -> list[str]:
    """Places where a function of one of `names` is called."""
    calls = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return [f"{name_of(path)}:{call.lineno} {call.func.id}" for call in calls if call.func.id in names]


def attributes(path: Path, *names: str) -> list[str]:
    """Places where an attribute such as `os.environ` is read."""
    nodes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    found = ((node.lineno, f"{node.value.id}.{node.attr}") for node in nodes)
    return [f"{name_of(path)}:{line} {name}" for line, name in found if name in names]


def test_every_place_of_the_engine_has_its_arrows():
    assert {room_of(path) for path in ENGINE} - {"__init__"} == set(MAY_IMPORT)


def test_imports_follow_the_arrows():
    breaches = []
    for path in ENGINE:
        for name in imports(path):
            package, _, rest = name.partition(".")
            allowed = MAY_IMPORT.get(room_of(path), set())
            if package in ("", "jobs") or (package == "engine" and rest.split(".")[0] not in allowed):
                breaches.append(f"{name_of(path)} imports {name}")
    assert breaches == []


def test_heavy_packages_stay_where_they_belong():
    breaches = []
    for path in FILES:
        for package in {name.partition(".")[0] for name in imports(path)} & set(HEAVY):
            if not any(path.relative_to(ROOT).match(pattern) for pattern in HEAVY[package]):
                breaches.append(f"{name_of(path)} imports {package}")
    assert breaches == []


def test_compiler_is_imported_when_something_is_signed_and_not_before():
    statements = ((path, node) for path in FILES for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom))
    assert [name_of(path) for path, node in statements if re.search(r"dedup.*\bkernel\b", ast.unparse(node))] == []


def test_engine_reads_no_arguments_and_prints_nothing():
    assert [place for path in ENGINE for place in called(path, "print", "input")] == []
    places = [place for path in ENGINE for place in attributes(path, "sys.argv", "sys.stdout", "sys.stderr")]
    assert [place for place in places if not place.startswith("engine/contract/document.py")] == []  # a script that writes a README


def test_engine_reads_no_environment():
    """But for the session, which hands the caller's import path on to the workers, and for keys, which may stand nowhere else."""
    allowed = ("engine/distributed/session.py", "engine/inference/endpoint.py")
    places = [place for path in ENGINE for place in attributes(path, "os.environ", "os.getenv")]
    assert [place for place in places if not place.startswith(allowed)] == []


def test_nothing_runs_code_that_came_as_data():
    breaches = [place for path in FILES for place in called(path, "eval", "exec", "compile")]
    for path in FILES:
        breaches += [f"{name_of(path)} imports {name}" for name in imports(path) if name.partition(".")[0] in CODE_FROM_DATA]
        given = (node for node in ast.walk(tree(path)) if isinstance(node, ast.keyword) and node.arg == "trust_remote_code")
        breaches += [f"{name_of(path)}:{one.value.lineno} trust_remote_code" for one in given if ast.unparse(one.value) != "False"]
    assert breaches == []


def test_files_are_short():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}


def test_functions_are_short():
    lengths = {f"{name_of(path)} {one.name}": (one.end_lineno or 0) - one.lineno + 1 for path in FILES for one in functions(path)}
    assert {name: count for name, count in lengths.items() if count > LONGEST_FUNCTION} == {}


def is_command(one: Function) -> bool:
    """Whether its parameters are the options of a command line."""
    return any(ast.unparse(decorator).endswith(".command()") for decorator in one.decorator_list)


def test_functions_take_few_parameters():
    counts = {}
    for path in FILES:
        for one in functions(path):
            if is_command(one):
                continue
            given = [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]
            counts[f"{name_of(path)} {one.name}"] = sum(argument.arg not in ("self", "cls") for argument in given)
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}


def test_source_is_ascii():
    drawn = {"engine/errors.py"}  # a tree in its docstring
    assert [name_of(path) for path in FILES if not path.read_text().isascii() and name_of(path) not in drawn] == []


def test_every_module_says_what_it_is():
    assert [name_of(path) for path in FILES if path.name != "__init__.py" and not ast.get_docstring(tree(path))] == []
