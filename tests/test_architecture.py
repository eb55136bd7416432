"""The arrows of the engine and the shape of its code, read from the source; nothing is imported. Every breach is listed."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE = sorted(ROOT.glob("engine/**/*.py"))
FILES = [*ENGINE, *sorted(ROOT.glob("jobs/**/*.py"))]

FLOOR = {"contract", "docstrings", "columns", "rows", "records", "readers", "storage", "retry", "safe_points", "calls", "errors"}
SERVICES = {"inference", "tools", "checks", "sandbox", "dedup", "distributed", "runs", "stats", "integrity"}
# A room uses the services and the floor; of the other rooms only those that are named here.
ROOMS: dict[str, set[str]] = {
    "prompts": set(),
    "teachers": set(),
    "judges": set(),
    "calibration": {"judges"},
    "scoring": {"judges"},
    "evidence": {"teachers", "judges", "calibration"},
    "grading": {"judges", "calibration", "scoring", "evidence"},
    "curation": set(),
    "capture": {"teachers"},
    "students": {"capture"},
    "evaluation": set(),
    "release": set(),
    "rounds": {"evaluation"},  # what is weak is what the report says is weak
    "serving": {"evaluation", "prompts"},  # a request is built, and an answer read, by the code that measured
    "report": set(),
    "comparison": set(),
    "publish": {"prompts"},  # the recognizers that redact prompts look through what leaves
}
MAY_IMPORT = {
    **{room: {room, *others, *SERVICES, *FLOOR} for room, others in ROOMS.items()},
    "inference": {"inference", *FLOOR},
    "tools": {"tools", "inference", "sandbox", *FLOOR},
    "checks": {"checks", "sandbox", *FLOOR},
    "sandbox": {"sandbox", *FLOOR},
    "runs": {"runs", *FLOOR},
    "integrity": {"integrity", *FLOOR},
    "distributed": {"distributed", "runs", *FLOOR},
    "dedup": {"dedup", "inference", "distributed", "runs", *FLOOR},
    "stats": {"stats", "records", "rows"},
    "cluster": {"cluster", *FLOOR},
    "contract": {"contract", "docstrings", "retry", "errors"},
    "storage": {"storage", "readers", "records", "rows", "columns", "retry", "errors"},
    "readers": {"readers", "rows", "retry", "errors"},
    "retry": {"errors"},
    "safe_points": set(),
    "calls": set(),
    "records": {"records", "docstrings"},
    "rows": {"columns"},
    "columns": set(),
    "docstrings": set(),
    "errors": set(),
}
# Where each heavy package may be imported at all.
HEAVY = {
    "ray": ("engine/distributed/*.py", "engine/*/flow.py", "engine/students/training/launch.py", "jobs/*/*.py"),
    "vllm": ("engine/inference/vllm_engine.py", "jobs/bench/*.py"),  # a benchmark compares with vLLM itself
    "deepspeed": ("engine/students/training/zero.py",),
    "numba": ("engine/dedup/kernel.py",),
    "llvmlite": ("engine/dedup/native.py",),
    "llama_cpp": ("engine/inference/llama_cpp_process.py", "engine/students/export/gguf_tool.py"),  # in processes of their own
}
CODE_FROM_DATA = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 300, 60, 6
UNTYPED, MOST_UNTYPED = "dict[str, Any]", 60

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


def require_none(breaches: Iterable[str], advice: str) -> None:
    """Fail with each breach on a line of its own, and what to do about it."""
    listed = sorted(breaches)
    assert not listed, "\n".join(["", *listed, "", advice])


def test_every_place_of_the_engine_has_its_arrows():
    places = {room_of(path) for path in ENGINE} - {"__init__"}
    require_none(places ^ set(MAY_IMPORT), "Name each package of engine/ in MAY_IMPORT (a room in ROOMS), and none that is gone.")


def test_imports_follow_the_arrows():
    breaches = []
    for path in ENGINE:
        for name in imports(path):
            package, _, rest = name.partition(".")
            allowed = MAY_IMPORT.get(room_of(path), set())
            if package in ("", "jobs") or (package == "engine" and rest.split(".")[0] not in allowed):
                breaches.append(f"{name_of(path)} imports {name}")
    advice = "Let the step in jobs/steps fetch what the room needs and pass plain values, or move shared code to a service."
    require_none(breaches, advice + " An arrow between rooms is added in ROOMS only if it makes no circle.")


def test_rooms_make_no_circle():
    order: list[str] = []
    while ready := [room for room, others in ROOMS.items() if room not in order and others <= set(order)]:
        order += ready
    require_none(set(ROOMS) - set(order), "These rooms import each other in a circle: remove an arrow from ROOMS.")


def test_heavy_packages_stay_where_they_belong():
    breaches = []
    for path in FILES:
        for package in {name.partition(".")[0] for name in imports(path)} & set(HEAVY):
            if not any(path.relative_to(ROOT).match(pattern) for pattern in HEAVY[package]):
                breaches.append(f"{name_of(path)} imports {package}")
    require_none(breaches, f"Ray belongs in flow.py of a room or in engine/distributed; the others in one file each: {HEAVY}.")


def test_compiler_is_imported_when_something_is_signed_and_not_before():
    statements = ((path, node) for path in FILES for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom))
    of_kernel = re.compile(r"dedup.*\bkernel(_\w+)?\b")
    breaches = [name_of(path) for path, node in statements if of_kernel.search(ast.unparse(node))]
    breaches = [name for name in breaches if not name.startswith("engine/dedup/kernel")]
    require_none(breaches, "Use engine.dedup.native, which loads machine code: numba takes half a second to import.")


def test_engine_reads_no_arguments_and_prints_nothing():
    places = [place for path in ENGINE for place in called(path, "print", "input")]
    places += [place for path in ENGINE for place in attributes(path, "sys.argv", "sys.stdout", "sys.stderr")]
    tools = tuple(f"engine/students/export/{name}_tool.py" for name in ("gguf", "int4"))
    forks = tuple(f"engine/distributed/fork_{name}.py" for name in ("server", "worker"))
    scripts = ("engine/contract/document.py", "engine/inference/llama_cpp_process.py", *tools, *forks)
    breaches = [place for place in places if not place.startswith(scripts)]  # scripts of processes of their own
    require_none(breaches, "Return values, or call the `log` and `progress` of the job's context; the commands in jobs/ print.")


def test_engine_reads_no_environment():
    """But for the session and its forks, which pass variables on to workers, for API keys, which may be nowhere else, and for a
    switch of vLLM that has no argument."""
    allowed = (
        "engine/distributed/fork",
        "engine/distributed/session.py",
        "engine/inference/endpoint.py",
        "engine/inference/vllm_engine.py",
    )
    places = [place for path in ENGINE for place in attributes(path, "os.environ", "os.getenv")]
    require_none([place for place in places if not place.startswith(allowed)], "Read the environment in jobs/ and pass the value.")


def test_nothing_runs_code_that_came_as_data():
    breaches = [place for path in FILES for place in called(path, "eval", "exec", "compile")]
    for path in FILES:
        breaches += [f"{name_of(path)} imports {name}" for name in imports(path) if name.partition(".")[0] in CODE_FROM_DATA]
        keywords = (node for node in ast.walk(tree(path)) if isinstance(node, ast.keyword) and node.arg == "trust_remote_code")
        breaches += [
            f"{name_of(path)}:{key.value.lineno} trust_remote_code" for key in keywords if ast.unparse(key.value) != "False"
        ]
        calls = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
        loads = (call for call in calls if ast.unparse(call.func.value).startswith("Auto") and call.func.attr.startswith("from_"))
        breaches += [  # without the key transformers asks a person whether to run the code of a model, and may be answered
            f"{name_of(path)}:{load.lineno} {ast.unparse(load.func)} without trust_remote_code=False"
            for load in loads
            if not {"trust_remote_code", None} & {key.arg for key in load.keywords}
        ]
    require_none(breaches, "Parse data as JSON, YAML (safe) or Parquet; run generated programs in engine/sandbox only.")


def test_files_are_short():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    breaches = [f"{name}: {count} lines" for name, count in lines.items() if count > LONGEST_FILE]
    require_none(breaches, f"A file has at most {LONGEST_FILE} lines: split it by what it computes.")


def test_functions_are_short():
    lengths = {f"{name_of(path)} {one.name}": (one.end_lineno or 0) - one.lineno + 1 for path in FILES for one in functions(path)}
    breaches = [f"{name}: {count} lines" for name, count in lengths.items() if count > LONGEST_FUNCTION]
    require_none(breaches, f"A function has at most {LONGEST_FUNCTION} lines: take a step out of it that has a name.")


def is_command(path: Path, one: Function) -> bool:
    """Whether its parameters are the options of a command line."""
    return path.name.startswith("cli_") or any(ast.unparse(decorator).endswith(".command()") for decorator in one.decorator_list)


def test_functions_take_few_parameters():
    breaches = []
    for path in FILES:
        for one in functions(path):
            parameters = [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]
            count = sum(parameter.arg not in ("self", "cls") for parameter in parameters)
            if count > MOST_PARAMETERS and not is_command(path, one):
                breaches.append(f"{name_of(path)} {one.name}: {count} parameters")
    require_none(breaches, f"A function takes at most {MOST_PARAMETERS} parameters: pass a section, a spec or a NamedTuple.")


def test_records_are_typed():
    lines = [f"{name_of(path)}: {line.strip()}" for path in FILES for line in path.read_text().splitlines() if UNTYPED in line]
    excess = lines if len(lines) >= MOST_UNTYPED else []
    require_none(
        excess, f"{UNTYPED} may stand on fewer than {MOST_UNTYPED} lines: use a Record, a NamedTuple, or rows.Row for a row."
    )


def test_source_is_ascii():
    drawn = {"engine/errors.py"}  # a tree in its docstring
    breaches = [name_of(path) for path in FILES if not path.read_text().isascii() and name_of(path) not in drawn]
    require_none(breaches, "Write other characters as escapes.")


def test_every_module_says_what_it_is():
    breaches = [name_of(path) for path in FILES if path.name != "__init__.py" and not ast.get_docstring(tree(path))]
    require_none(breaches, "Begin the module with a docstring that says what it computes.")
