"""The arrows of the engine, read from its source; nothing is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("engine/**/*.py"), *ROOT.glob("jobs/**/*.py")])

ROOMS = ("prompts", "teachers", "judges", "curation", "students", "evaluation", "release", "report")
FLOOR = {"contract", "rows", "shards", "errors"}
SERVICES = {"models", "checks", "similarity", "fleet", "lineage"}
MAY_IMPORT = {
    **{room: {room, *SERVICES, *FLOOR} for room in ROOMS},
    "models": {"models", *FLOOR},
    "checks": {"checks", *FLOOR},
    "lineage": {"lineage", *FLOOR},
    "fleet": {"fleet", "lineage", *FLOOR},
    "similarity": {"similarity", "fleet", "lineage", *FLOOR},
    "contract": {"contract", "errors"},
    "shards": {"rows", "errors"},
    "rows": set(),
    "errors": set(),
}
# Where each heavy package may be imported at all.
HEAVY = {
    "ray": ("engine/fleet/*.py", "engine/*/flow.py", "engine/students/launch.py", "jobs/*.py", "jobs/bench/*.py"),
    "vllm": ("engine/models/vllm_model.py", "jobs/bench/*.py"),  # a bench compares with vLLM itself
    "deepspeed": ("engine/students/zero.py",),
}
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 300, 60, 6


def of(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.relative_to(ROOT).as_posix())


every_file = of(FILES)
every_engine_file = of([path for path in FILES if path.is_relative_to(ROOT / "engine")])


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every imported module by its full name, wherever the import stands."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    """The room, service or file of the floor that a file of the engine belongs to."""
    return path.relative_to(ROOT / "engine").parts[0].removesuffix(".py")


def test_there_are_files_to_look_at():
    assert len(FILES) > 50
    assert {place(path) for path in FILES if path.is_relative_to(ROOT / "engine")} - {"__init__"} == set(MAY_IMPORT)


@every_engine_file
def test_imports_follow_the_arrows(path):
    here = place(path)
    for name in imports(path):
        package, _, rest = name.partition(".")
        assert package != "jobs", f"imports {name}: the engine never knows its jobs"
        if package == "engine" and here != "__init__":
            assert rest.split(".")[0] in MAY_IMPORT[here], f"{here} must not import {name}"


@every_file
def test_heavy_packages_stay_where_they_belong(path):
    where = path.relative_to(ROOT)
    for name in imports(path):
        package = name.partition(".")[0]
        if package in HEAVY:
            assert any(where.match(pattern) for pattern in HEAVY[package]), f"must not import {package}"


@every_engine_file
def test_engine_reads_no_arguments_and_prints_nothing(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input"), f"line {node.lineno}: {node.func.id}()"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in (("sys", "argv"), ("os", "getenv")), f"line {node.lineno}: {node.attr}"


@every_engine_file
def test_engine_reads_no_environment_of_its_own(path):
    """Only what starts processes for others may hand an environment on: the session, and the workers of a training."""
    if path.relative_to(ROOT / "engine").as_posix() in (
        "fleet/session.py",
        "students/loop.py",
        "students/launch.py",
        "students/zero.py",
    ):
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("os", "environ"), f"line {node.lineno}: os.environ"


@every_engine_file
def test_engine_runs_no_remote_code_and_opens_no_pickle(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert isinstance(node.value, ast.Constant) and node.value.value is False, f"line {node.value.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"line {node.lineno}: {node.func.id}()"
    assert not {"pickle", "dill", "cloudpickle", "shelve"} & {name.partition(".")[0] for name in imports(path)}


@every_file
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{node.name} is too long"


@every_file
def test_functions_take_few_parameters(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [argument for argument in given if argument.arg not in ("self", "cls")]
            assert len(own) <= MOST_PARAMETERS, f"{node.name} takes {len(own)} parameters"


@every_file
def test_source_is_ascii(path):
    path.read_text(encoding="ascii" if path.name not in BOXES else "utf-8")


BOXES = {"errors.py"}  # draws a tree


@every_file
def test_every_module_says_what_it_is(path):
    assert path.name == "__init__.py" or ast.get_docstring(tree(path)), "has no docstring"
